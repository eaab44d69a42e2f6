"""A diagnosis for people: an HTML report, a terminal's tables, and the labels that both use."""
