"""Sounds of the phantom."""
