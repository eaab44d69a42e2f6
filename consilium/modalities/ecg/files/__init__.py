"""Files that ECGs come in."""
