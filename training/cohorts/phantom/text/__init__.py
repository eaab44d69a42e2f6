"""The phantom's notes."""
