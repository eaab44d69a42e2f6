"""Arrays of any shape on disk, by a digest, memory-mapped; safe against a kill at any moment.

A folder holds shards (the bytes of many arrays, one after the other) and one index, which says of each array where it
lies, its type and shape, a checksum, and what else is known of it. Bytes are on disk before the index that names them,
and the index is replaced in one step: a kill leaves bytes that no index names, never an index that names half an array.
"""

from __future__ import annotations

import json
import logging
import math
import os
import zlib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from filelock import FileLock

from consilium.system.durable import replace_json
from training.data.store_use import FolderUse

Array = npt.NDArray[Any]

INDEX = "index.json"
_FORMAT = 4
_SHARD_BYTES = 256 << 20
"""A shard that holds as much is followed by another."""
_ROWS_BETWEEN_SAVES = 256
"""At least so many; more as the index grows, which is written whole each time."""
_ALIGNMENT = 64
"""Bytes; where an array begins, as NumPy's own files have it."""
_KINDS = "biufc"
"""Kinds of element that are numbers and nothing else (`numpy.dtype.kind`)."""

_log = logging.getLogger(__name__)


class ArrayStore:
    """Arrays by digest, each with JSON facts.

    Parameters
    ----------
    folder : Path
        Made where it is missing. Several processes may use it; they fill it one after the other. It is held for as
        long as the store lives (`training.data.store_use`).
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._use: FolderUse | None = FolderUse(folder)
        self._rows: dict[str, dict[str, Any]] = {}
        self._shards: dict[str, Array] = {}
        self._read_index()

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, digest: object) -> bool:
        return digest in self._rows

    def __getstate__(self) -> dict[str, Any]:
        # A memory map would travel to a loading process as a copy of all arrays; there it is opened anew.
        # Whoever started that process holds the folder.
        return self.__dict__ | {"_shards": {}, "_use": None}

    def __getitem__(self, digest: str) -> Array:
        """The array, memory-mapped and read-only.

        Raises
        ------
        KeyError
            Where there is none of this digest.
        """
        array = self._array(self._rows[digest])
        assert array is not None
        return array

    def facts(self, digest: str) -> dict[str, Any]:
        """What was stored with the array."""
        facts: dict[str, Any] = self._rows[digest]["facts"]
        return facts

    @contextmanager
    def filling(self) -> Iterator[StoreWriter]:
        """What writes into this store, while no other process does; it knows what others have written before."""
        with FileLock(self._folder / ".lock"):
            self._read_index()
            with StoreWriter(self) as writer:
                yield writer

    # --- on disk -----------------------------------------------------------------------------------------------------

    def _read_index(self) -> None:
        """Take over every array whose bytes still have the checksum that the index gives."""
        if not (self._folder / INDEX).exists():
            return
        stored = _indexed(self._folder)
        if stored is None:
            _log.warning("the index of the cache %s cannot be read; files are read anew", self._folder.name)
            stored = {}
        fresh = {digest: row for digest, row in stored.items() if digest not in self._rows}
        sound = {digest: row for digest, row in fresh.items() if self._is_sound(row)}
        self._rows |= sound
        if len(sound) < len(fresh):
            _log.warning("%d cached file(s) are damaged and are read anew", len(fresh) - len(sound))

    def _is_sound(self, row: Mapping[str, Any]) -> bool:
        array = self._array(row)
        return array is not None and _checksum(array) == row["crc32"]

    def _array(self, row: Mapping[str, Any]) -> Array | None:
        """The array that `row` of the index names; None where its shard does not hold it."""
        dtype, shape, start = np.dtype(row["dtype"]), tuple(row["shape"]), row["start"]
        end = start + math.prod(shape) * dtype.itemsize
        shard = self._mapped(row["shard"], end)
        if shard is None or dtype.kind not in _KINDS:
            return None
        return shard[start:end].view(dtype).reshape(shape)

    def _mapped(self, name: str, length: int) -> Array | None:
        """A shard as bytes, at least `length` of them; None where it has fewer."""
        shard = self._shards.get(name)
        if shard is None or len(shard) < length:
            try:
                shard = np.asarray(np.memmap(self._folder / name, np.uint8, "r"))
            except (OSError, ValueError):  # an empty file cannot be mapped
                return None
            self._shards[name] = shard
        return shard if len(shard) >= length else None

    def _add_rows(self, rows: Mapping[str, dict[str, Any]]) -> None:
        known = {**self._rows, **rows}
        replace_json(self._folder / INDEX, {"format": _FORMAT, "arrays": known})
        self._rows = known


class StoreWriter:
    """Writes arrays into new shards of a store: first their bytes to disk, then the index that names them."""

    def __init__(self, store: ArrayStore) -> None:
        self._store = store
        self._shard: BinaryIO | None = None
        self._name = ""
        self._pending: dict[str, dict[str, Any]] = {}

    def __enter__(self) -> StoreWriter:
        return self

    def __exit__(self, *error: object) -> None:
        with ExitStack() as last:  # each whatever becomes of the ones before
            last.callback(self._remove_unnamed)
            last.callback(self._close)
            self._save()

    def __contains__(self, digest: object) -> bool:
        return digest in self._pending or digest in self._store

    def add(self, digest: str, array: Array, facts: Mapping[str, Any]) -> None:
        """Store `array`, of numbers, with `facts`, which JSON can hold; what is stored of this digest stays.

        Raises
        ------
        TypeError
            For an array whose elements are no numbers.
        OSError
            Where there is no room.
        """
        if digest in self:
            return
        if array.dtype.kind not in _KINDS:
            raise TypeError(f"an array of {array.dtype} cannot be stored: its elements must be numbers")
        shard = self._open()
        shard.write(bytes(-shard.tell() % _ALIGNMENT))
        place = {"shard": self._name, "start": shard.tell()}
        # A write says that there is no room; a memory map would kill the process.
        shard.write(np.ascontiguousarray(array).tobytes())
        kind = {"dtype": array.dtype.str, "shape": list(array.shape), "crc32": _checksum(array)}
        self._pending[digest] = {**place, **kind, "facts": dict(facts)}
        if len(self._pending) >= max(_ROWS_BETWEEN_SAVES, len(self._store) // 8):
            self._save()

    def _open(self) -> BinaryIO:
        """The shard that is written, a new one where there is none or it is full."""
        if self._shard is not None and self._shard.tell() >= _SHARD_BYTES:
            self._save()
            self._close()
        if self._shard is None:
            number = 0
            while (self._store._folder / f"arrays-{number:05d}.bin").exists():
                number += 1
            self._name = f"arrays-{number:05d}.bin"
            self._shard = (self._store._folder / self._name).open("wb")
        return self._shard

    def _close(self) -> None:
        if self._shard is not None:
            shard, self._shard = self._shard, None
            shard.close()

    def _save(self) -> None:
        if self._shard is None or not self._pending:
            return
        self._shard.flush()
        os.fsync(self._shard.fileno())
        self._store._add_rows(self._pending)
        self._pending = {}

    def _remove_unnamed(self) -> None:
        """Remove the last shard where the index names no array of it."""
        if self._name and not any(row["shard"] == self._name for row in self._store._rows.values()):
            (self._store._folder / self._name).unlink(missing_ok=True)


def stored_arrays(folder: Path) -> int | None:
    """How many arrays the store in `folder` names; None where this version reads none of them."""
    stored = _indexed(folder)
    return None if stored is None else len(stored)


def _indexed(folder: Path) -> dict[str, dict[str, Any]] | None:
    try:
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        stored: dict[str, dict[str, Any]] | None = index["arrays"] if index["format"] == _FORMAT else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return stored


def _checksum(array: Array) -> int:
    return zlib.crc32(np.ascontiguousarray(array).data)
