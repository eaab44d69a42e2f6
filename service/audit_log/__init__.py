"""The audit log: every answer is committed here before its caller sees it.

`recorder.py` is what the service talks to, `store.py` what is kept and asked for, `tables.py` how it lies in SQLite or
PostgreSQL. Nothing that names a patient gets in: `pseudonyms.py` turns identifiers into keyed digests first.
"""
