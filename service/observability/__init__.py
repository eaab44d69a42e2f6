"""Logs, metrics and traces; none of them holds anything that identifies a patient."""
