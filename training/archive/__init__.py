"""A whole archive answered by one model, outside of the service: a table with one row for each study.

Open `score_archive` first. What is scored is an `archive_sources.Archive`; a chunk of its studies becomes a file of the
table by `chunk_scorer`, in this process or on Ray (`engines`).
"""
