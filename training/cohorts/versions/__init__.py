"""Versions of a cohort, as they are read: `version_record`. `training.lifecycle.cohorts` makes them."""
