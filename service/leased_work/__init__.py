"""Work that is handed over and answered while nobody waits: jobs and stored studies.

A row of the audit log's database is held by one process at a time, by a lease: `lease_store.py` takes, renews and gives
back, `lease_worker.py` works at what was taken and tries again what failed. `sealed_input.py` is what was handed over.
"""
