"""The service under load while its model moves and its processes are killed: `make soak`; a short one is in the tests.

A `campaign` lets `callers` send well-formed `studies` and `hostile` requests, moves the alias, kills and restarts; the
`verdict` is on everything that was answered. Read `campaign.py` first.
"""
