"""The task performer of a UPS-RS worklist (IHE AIW-I): query, claim, progress, completion, cancellation.

`performer.py` takes one work item from its claim to its end, `performing.py` all of a worklist; `worklist_server.py`
speaks to the worklist, `work_items.py` reads its data sets and `performed_steps.py` writes them. What becomes of the
studies is told by whoever implements `performer.Studies`. Read `performer.py` first. Source: PS3.18 11, PS3.4 CC.
"""
