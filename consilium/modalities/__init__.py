"""One folder for each kind of record that a model reads: how it is read, prepared, encoded and explained."""
