"""The process of the gateway: listeners, workers and HTTP routes around one store."""
