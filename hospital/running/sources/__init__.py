"""The systems that studies come from, asked and fetched from."""
