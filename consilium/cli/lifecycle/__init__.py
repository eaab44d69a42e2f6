"""Commands of what comes after a training."""
