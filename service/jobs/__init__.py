"""Jobs: studies that are handed over, and answered while nobody waits.

`job_routes.py` is what callers use, `runner.py` what answers the studies, `caller_store.py` and `worker_store.py` what
is stored meanwhile: one as callers see it, the other as the processes do that answer.

All of it lies in the audit log's database, the studies too, sealed. A folder would have to be shared by every machine
that may take a job over, and what is acknowledged would lie in two places that a crash can set at odds; here the
studies, the job and the claim of its idempotency key are there together or not at all, and an answer is kept in the
transaction that records it.
"""
