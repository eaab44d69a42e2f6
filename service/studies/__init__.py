"""Stored studies: what readers look at, what the model answered, and what the readers decided.

`study_routes.py` is what readers use, `reader_store.py` what they see of the database and `decisions.py` what they
leave there; `study_runner.py` decodes and answers what was sent, by `answering_store.py`. `stored_contents.py` says
what is shown of a study, `operations.py` what is shown of the service.

All of it lies in the audit log's database, as jobs do. Whatever names a patient lies there sealed.
"""
