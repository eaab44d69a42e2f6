"""The machine beneath: files that survive a kill, environment variables, threads, lazy imports."""
