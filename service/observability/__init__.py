"""Logs, metrics and traces; none of them holds what tells who a patient is."""
