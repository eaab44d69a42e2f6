"""What pretraining minimises: a weighted sum of objectives, one module each. `objective_table` has all of them."""
