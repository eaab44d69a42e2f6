"""A cohort's studies as batches: decoded once, augmented, collated."""
