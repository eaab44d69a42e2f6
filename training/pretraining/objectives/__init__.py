"""What pretraining minimises: a weighted sum of objectives, one module each. Open `table` first: it has all of them."""
