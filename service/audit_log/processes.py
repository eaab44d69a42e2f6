"""Which processes of one home are alive: each holds the lock on a file of its own, which ends with the process.

The kernel sees to that, so that a killed process is known at once and for certain, with no guess at clocks or process
ids. Processes of another home are not seen here.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable
from pathlib import Path
from uuid import UUID, uuid4

_NAME = "-".join("[0-9a-f]" * digits for digits in (8, 4, 4, 4, 12))


class Processes:
    """The processes that share `folder`; `own` is this one, from now on until `end`.

    Raises
    ------
    OSError
        Where nothing can be written there.
    """

    def __init__(self, folder: Path) -> None:
        self.own = uuid4()
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        unnamed = folder / f".{self.own}"
        # It gets its name once it is locked: nobody must take it for that of a dead process.
        self._lock = os.open(unnamed, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        unnamed.rename(folder / str(self.own))

    def dead(self) -> list[UUID]:
        """Those that ended without `end`, and were not forgotten."""
        others = (path for path in self._folder.glob(_NAME) if path.name != str(self.own))
        return [UUID(path.name) for path in others if _is_open(path)]

    def forget(self, processes: Iterable[UUID]) -> None:
        """Name these no more among the dead."""
        for process in processes:
            (self._folder / str(process)).unlink(missing_ok=True)

    def end(self) -> None:
        """Leave nothing behind."""
        self.forget([self.own])
        os.close(self._lock)


def _is_open(path: Path) -> bool:
    """Whether nobody holds the lock, for certain."""
    try:
        lock = os.open(path, os.O_RDWR)
    except OSError:  # another user's, or forgotten just now
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(lock)
    return True
