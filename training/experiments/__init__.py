"""Questions that are asked of several trainings, not of one: fusions compared, cohorts that shift."""
