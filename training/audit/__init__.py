"""What is wrong with a cohort before anyone trusts a model of it.

`report` holds what an audit ends in; open it first. `duplicates`, `label_words`, `support`, `shortcuts` (on the facts
that `provenance` gathers) and `sources` each look for one kind of trouble and give tables and concerns;
`audit.audit_cohort` runs them and passes the verdict.
"""
