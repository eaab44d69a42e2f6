"""ECGs, where a model is trained."""
