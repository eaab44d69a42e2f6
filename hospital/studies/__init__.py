"""Which records belong together, when a study is complete, its revisions, and what the service is asked.

`rules` decides, `asking` asks the service; `intake.py` says which studies a record concerns, `study_walk.py` takes one
study from its first object to its results, `worker.py` all of them. Read `study_walk.py` first.
"""
