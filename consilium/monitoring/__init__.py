"""What is kept of an answer so that a model in service can be watched; nothing here imports torch."""
