"""Volumes of the phantom."""
