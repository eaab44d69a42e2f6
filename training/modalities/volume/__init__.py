"""Volumes, where a model is trained."""
