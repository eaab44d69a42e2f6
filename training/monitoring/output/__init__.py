"""What the monitor found, in words, plots, gauges, a page and JSON."""
