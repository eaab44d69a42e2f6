"""Drafts of reports."""
