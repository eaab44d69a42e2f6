"""What `consilium gateway run` and `check` do: a gateway of everything that gateway.yaml describes."""
