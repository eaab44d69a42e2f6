"""When the model must not answer alone: `out_of_distribution` scores, and the `reasons` to refer."""
