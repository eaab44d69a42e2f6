"""The commands that make models and encoders out of cohorts, and those that compare them."""
