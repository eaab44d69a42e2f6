"""What the commands share: output, the options of a study, processes that train together."""
