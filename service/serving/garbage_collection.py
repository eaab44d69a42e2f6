"""What a loaded model is made of is no garbage: the collector need not walk over it while requests are answered.

A model and its libraries are some million objects. Walking over all of them takes the interpreter's lock for a third of
a second and more, in whichever request the collector's turn comes.
"""

from __future__ import annotations

import gc


def set_aside(*, collect: bool) -> None:
    """Let the collector pass over all objects that there are now; after one last walk, where nobody waits for it."""
    if collect:
        gc.collect()
    gc.freeze()


def take_back() -> bool:
    """Let it look at them again, as one of them may be garbage soon; whether any were set aside."""
    was_set_aside = gc.get_freeze_count() > 0
    gc.unfreeze()
    return was_set_aside
