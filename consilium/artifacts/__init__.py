"""A model as a folder that can be checked, in the registry or on disk. Open `artifact`, then `model_registry`."""
