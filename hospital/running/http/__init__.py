"""The HTTP server within the process, and the routes of health and metrics."""
