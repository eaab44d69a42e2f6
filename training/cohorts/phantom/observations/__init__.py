"""The phantom's laboratory values and vital signs."""
