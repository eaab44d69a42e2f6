"""The networks that make a feature map of an image, by name, hub id or folder.

`catalogue` lists the names and finds the one that a recipe's section means; `description` holds what must be known of
it beside the weights (channels, normalisation, configuration), which travels in the artifact; `backbone` is what every
network looks like from outside. `weights_file` reads weights, `weights_import` makes such files of others' state dicts.
"""
