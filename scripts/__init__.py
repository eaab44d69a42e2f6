"""Commands of the repository itself; none is in the wheel."""
