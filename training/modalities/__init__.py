"""What training, audit, evaluation and card know of each built-in modality, a folder each.

Open `training.training_side` first: it says what a modality may bring. Nothing imports these folders; each is named by
its modality's declaration.
"""
