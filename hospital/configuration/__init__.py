"""The file gateway.yaml as typed settings: peers, listeners, routes, destinations; an error names its key."""
