"""ECGs of the phantom."""
