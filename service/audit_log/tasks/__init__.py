"""Answers that nobody waits for: kept in the transaction that records them, by the one process that holds them."""
