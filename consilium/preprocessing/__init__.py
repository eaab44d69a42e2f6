"""Study to Batch: the only preprocessing there is, for training and for the service. Open `collate` first."""
