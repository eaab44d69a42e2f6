"""Sounds, where a model is trained."""
