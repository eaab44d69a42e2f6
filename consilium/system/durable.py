"""Files that survive a kill: either the old content or the new, never half of it.

What is written is on disk when a function returns, and readable by its owner alone (mode 0600).
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def replace_file(path: Path, content: bytes) -> None:
    """Put `content` at `path` in one step."""
    with _beside(path, content) as whole:
        whole.replace(path)


def replace_json(path: Path, data: Any) -> None:
    """`replace_file` for JSON."""
    replace_file(path, json.dumps(data, indent=1, sort_keys=True, allow_nan=False).encode())


def create_file(path: Path, content: bytes) -> None:
    """Put `content` at `path` in one step where nothing is yet; of several processes that try, one does.

    Raises
    ------
    FileExistsError
    """
    with _beside(path, content) as whole:
        os.link(whole, path)


def sync(path: Path) -> None:
    """Wait until the file, or the list of the folder's files, at `path` is on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _fill(handle: int, content: bytes, path: Path) -> None:
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        error.filename = str(path)  # The system names no file where it has no room for more of one.
        raise


@contextmanager
def _beside(path: Path, content: bytes) -> Iterator[Path]:
    """A file with `content` in the folder of `path`, to be given its name; what is left of it is removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        _fill(handle, content, path)
        yield Path(name)
    finally:
        Path(name).unlink(missing_ok=True)
    sync(path.parent)
