"""The commands around a running service: start it, pack it, ask it, and read what it answered."""
