"""Versions of a cohort, as they are made: `cohort_store` reads top-down; `version_tables` knows the tables."""
