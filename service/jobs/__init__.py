"""Jobs: studies that are handed over, and answered while nobody waits.

`doors.py` is what callers talk to, `runner.py` what answers the studies, `spool.py` and `shelf.py` what is kept of them
meanwhile: `spool.py` as callers see it, `shelf.py` as the processes do that answer.

All of it lies in the record's database, the studies too, sealed. A folder would have to be shared by every machine that
may take a job over, and what is acknowledged would lie in two places that a crash can set at odds; here the studies,
the job and the claim of its idempotency key are there together or not at all, and an answer is kept in the transaction
that records it.
"""
