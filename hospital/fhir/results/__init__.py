"""Results out: one transaction a revision, and what posts it. `bundle` is the whole of it."""
