"""A model and everything it needs, in one object: `diagnostician`. `backends` run its network."""
