"""How a model is made, as one checked document: the recipe."""
