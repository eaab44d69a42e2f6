"""Who has a folder of arrays open, so that nobody removes it meanwhile.

A shared lock on one file of the folder, held for as long as its holder lives; the kernel gives it back however the
process ends. The file's time says when the folder was last opened.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

USE = ".use"
REMOVED = ".removed"
"""Ending of a folder that is being removed."""


class FolderUse:
    """Holds `folder`, which is made where it is missing, until it is collected or the process ends."""

    def __init__(self, folder: Path) -> None:
        descriptor = _held(folder)
        self._end = weakref.finalize(self, os.close, descriptor)

    def end(self) -> None:
        """Give it back now."""
        self._end()


def _held(folder: Path) -> int:
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(folder / USE, os.O_RDWR | os.O_CREAT, 0o600)
        except FileNotFoundError:  # removed meanwhile
            continue
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        if _is_at(descriptor, folder / USE):
            os.utime(descriptor)
            return descriptor
        os.close(descriptor)


def _is_at(descriptor: int, path: Path) -> bool:
    """Whether the open file still has that name: its folder may have been removed before the lock was given."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


@contextmanager
def unused(folder: Path) -> Iterator[bool]:
    """Whether nobody holds `folder`; where that is so, nobody opens it while the block lasts."""
    try:
        descriptor = os.open(folder / USE, os.O_RDWR)
    except FileNotFoundError:  # of a version that held nothing, or gone
        yield folder.is_dir()
        return
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield _is_at(descriptor, folder / USE)
    finally:
        os.close(descriptor)


def remove_unused(folder: Path) -> bool:
    """Remove `folder` unless somebody holds it, and say whether that was done.

    It loses its name in one step: nobody finds half of it.
    """
    gone = folder.with_name(f".{folder.name[:12]}.{uuid4().hex}{REMOVED}")
    with unused(folder) as free:
        if free:
            folder.rename(gone)
    if free:
        shutil.rmtree(gone)
    return free
