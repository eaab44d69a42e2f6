"""Audit messages for the site's audit repositories: what happened, who took part, and whose records it concerned.

They name patients, as the standards require: they go to the repositories that gateway.yaml names and nowhere else.
Read `audit_trail.py` first.
"""
