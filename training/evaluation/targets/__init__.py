"""Evaluation of the targets beside the findings: grades and times to an event."""
