"""Imports without garbage collection.

A model and its libraries are some million objects that stay. While they are made, the collector walks over those that
are there already again and again: a fifth of the time of a command that answers one study.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_collection() -> Iterator[None]:
    """Collect no garbage while the block runs, and later pass over all that there is at its end, which stays."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if enabled:
            gc.enable()
