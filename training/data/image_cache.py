"""Every image decoded once, whatever the number of epochs, runs and recipes.

A cache folder holds, for one way of preparing images (`SquareConverter.key`), shards of squares (uint16 [n, S, S],
NumPy files that are memory-mapped) and one index. The index names each square by the SHA-256 of the bytes that it was
made of, so that a changed file is another square; and it gives a checksum of the square's own pixels. Pixels are on
disk before the index that names them, and the index is replaced in one step: a kill at any moment leaves squares that
no index names, never an index that names half a square.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from filelock import FileLock

from consilium.domain.errors import InaccessibleFile, InputError
from consilium.domain.study import Patient, Sex
from consilium.formats.dicom.origin import Origin
from consilium.formats.limits import check_bytes
from consilium.ingest.decode_pool import DecodePool
from consilium.modalities.image.image_record import Image, ViewPosition
from consilium.modalities.image.preparation import SquareConverter
from consilium.modalities.registry import default_limits
from consilium.system.durable import replace_json
from training.cohorts.tables import unreadable

Square = npt.NDArray[np.uint16]

_FORMAT = 3
_SHARD_ROWS = 1024
_ROWS_BETWEEN_SAVES = 256
"""At least so many; more as the index grows, which is written whole each time."""

_log = logging.getLogger(__name__)


class ImageCache:
    """Squares by the SHA-256 of the bytes that they were made of.

    Parameters
    ----------
    folder : Path
        Made where it is missing. Several processes may use it; they fill it one after the other.
    converter : SquareConverter
        Image → square, uint16 [S, S].
    """

    def __init__(self, folder: Path, converter: SquareConverter) -> None:
        self._folder = folder / converter.key
        self._prepare: Callable[[Image], Square] | None = converter
        self._side = converter.side
        self._rows: dict[str, dict[str, Any]] = {}
        self._shards: dict[str, np.memmap] = {}
        self._folder.mkdir(parents=True, exist_ok=True)
        self._read_index()

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, digest: object) -> bool:
        return digest in self._rows

    def __getstate__(self) -> dict[str, Any]:
        # A memory map would travel to a loading process as a copy of all pixels; there it is opened anew.
        return self.__dict__ | {"_shards": {}, "_prepare": None}

    def square(self, digest: str) -> Square:
        """The prepared image, uint16 [S, S], memory-mapped and read-only."""
        row = self._rows[digest]
        square = self._square(row["shard"], row["row"])
        assert square is not None
        return square

    def image(self, digest: str) -> Image:
        """What the file said, with a stand-in for the pixels that has their shape and takes no memory."""
        return _stand_in(digest, self._rows[digest]["image"])

    def fill(self, paths: Sequence[Path], pool: DecodePool, advance: Callable[[], None] | None = None) -> Filling:
        """Decode and prepare those of `paths` that are not cached yet.

        Parameters
        ----------
        paths : sequence of Path
        pool : DecodePool
        advance : callable or None
            Called after each path.
        """
        assert self._prepare is not None
        digests: dict[Path, str] = {}
        refused: dict[Path, InputError] = {}
        with FileLock(self._folder / ".lock"):
            self._read_index()
            with _Writer(self) as writer:
                for path, digest, outcome in _decode_all(self._unknown(paths), pool):
                    digests[path] = digest
                    if isinstance(outcome, InputError):
                        refused[path] = outcome
                        del digests[path]
                    elif outcome is not None and digest not in self._rows:
                        writer.add(digest, outcome, self._prepare(outcome))
                    if advance is not None:
                        advance()
        return Filling(digests, refused)

    def _unknown(self, paths: Iterable[Path]) -> Iterator[tuple[Path, str, bytes | InputError | None]]:
        """Each path with its digest and, where it must be decoded, its content."""
        for path in dict.fromkeys(paths):
            try:
                check_bytes(path.stat().st_size, default_limits()["image_bytes"])
                content = path.read_bytes()
            except InputError as error:
                yield path, "", error
                continue
            except OSError as error:
                yield path, "", InaccessibleFile("images", path.name, unreadable(error))
                continue
            digest = hashlib.sha256(content).hexdigest()
            yield path, digest, None if digest in self._rows else content

    # --- on disk -----------------------------------------------------------------------------------------------------

    @property
    def _index(self) -> Path:
        return self._folder / "index.json"

    def _read_index(self) -> None:
        """Take over every square whose pixels still have the checksum that the index gives."""
        if not self._index.exists():
            return
        try:
            index = json.loads(self._index.read_text(encoding="utf-8"))
            stored = index["images"] if index["format"] == _FORMAT else {}
        except (ValueError, KeyError, TypeError):
            _log.warning("the image cache's index cannot be read; images are decoded anew")
            stored = {}
        fresh = {digest: row for digest, row in stored.items() if digest not in self._rows}
        damaged = 0
        for digest, row in fresh.items():
            square = self._square(row["shard"], row["row"])
            if square is not None and _checksum(square) == row["crc32"]:
                self._rows[digest] = row
            else:
                damaged += 1
        if damaged:
            _log.warning("%d cached image(s) are damaged and are decoded anew", damaged)

    def _square(self, shard: str, row: int) -> Square | None:
        if shard not in self._shards:
            try:
                self._shards[shard] = np.load(self._folder / shard, mmap_mode="r", allow_pickle=False)
            except (OSError, ValueError):
                return None
        squares = self._shards[shard]
        fits = squares.dtype == np.uint16 and squares.shape[1:] == (self._side, self._side)
        return squares[row] if fits and row < len(squares) else None

    def _add_rows(self, rows: Mapping[str, dict[str, Any]]) -> None:
        known = {**self._rows, **rows}
        replace_json(self._index, {"format": _FORMAT, "images": known})
        self._rows = known
        for row in rows.values():
            self._square(row["shard"], row["row"])


@dataclass(frozen=True, slots=True)
class Filling:
    """What became of the files asked for: the digest of each that is cached now, and why the others are not."""

    digests: dict[Path, str]
    refused: dict[Path, InputError]


class _Writer:
    """Writes squares into new shards: first the pixels to disk, then the index that names them."""

    def __init__(self, cache: ImageCache) -> None:
        self._cache = cache
        self._shard: BinaryIO | None = None
        self._name = ""
        self._used = 0
        self._pending: dict[str, dict[str, Any]] = {}

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, *error: object) -> None:
        with ExitStack() as last:  # each whatever becomes of the ones before
            last.callback(self._remove_unnamed)
            last.callback(self._close)
            self._save()

    def _remove_unnamed(self) -> None:
        """Remove the last shard where the index names no square of it."""
        if self._name and not any(row["shard"] == self._name for row in self._cache._rows.values()):
            (self._cache._folder / self._name).unlink(missing_ok=True)

    def add(self, digest: str, image: Image, square: Square) -> None:
        if digest in self._pending:
            return
        if self._shard is None or self._used == _SHARD_ROWS:
            self._save()
            self._close()
            self._open()
        assert self._shard is not None
        # A write tells that there is no room; a memory map would kill the process.
        self._shard.write(np.ascontiguousarray(square).tobytes())
        facts = _facts(image)
        self._pending[digest] = {"shard": self._name, "row": self._used, "crc32": _checksum(square), "image": facts}
        self._used += 1
        if len(self._pending) >= max(_ROWS_BETWEEN_SAVES, len(self._cache) // 8):
            self._save()

    def _open(self) -> None:
        folder, side = self._cache._folder, self._cache._side
        number = 0
        while (folder / f"squares-{number:05d}.npy").exists():
            number += 1
        self._name, self._used = f"squares-{number:05d}.npy", 0
        shape = (_SHARD_ROWS, side, side)
        self._shard = (folder / self._name).open("wb")
        header = {"descr": np.lib.format.dtype_to_descr(np.dtype(np.uint16)), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(self._shard, header)
        # The file is sparse: rows that are never written take no space on disk.
        self._shard.truncate(self._shard.tell() + math.prod(shape) * np.dtype(np.uint16).itemsize)

    def _close(self) -> None:
        if self._shard is not None:
            shard, self._shard = self._shard, None
            shard.close()

    def _save(self) -> None:
        if self._shard is None or not self._pending:
            return
        self._shard.flush()
        os.fsync(self._shard.fileno())
        self._cache._add_rows(self._pending)
        self._pending = {}


def _decode_all(
    inputs: Iterable[tuple[Path, str, bytes | InputError | None]], pool: DecodePool
) -> Iterator[tuple[Path, str, Image | InputError | None]]:
    """Decode in the pool, keeping it busy with a few files ahead; the order stays."""
    ahead = 2 * pool.workers
    waiting: deque[tuple[Path, str, Any]] = deque()
    for path, digest, content in inputs:
        waiting.append((path, digest, pool.submit(content) if isinstance(content, bytes) else content))
        if len(waiting) > ahead:
            yield _outcome(*waiting.popleft())
    while waiting:
        yield _outcome(*waiting.popleft())


def _outcome(path: Path, digest: str, work: Any) -> tuple[Path, str, Image | InputError | None]:
    if work is None or isinstance(work, InputError):
        return path, digest, work
    try:
        return path, digest, work.result()
    except InputError as error:
        return path, digest, error


def _checksum(square: Square) -> int:
    return zlib.crc32(square.tobytes())


def _facts(image: Image) -> dict[str, Any]:
    return {
        "shape": list(image.shape),
        "source": image.source,
        "view": image.view.value,
        "laterality": image.laterality,
        "pixel_spacing": list(image.pixel_spacing) if image.pixel_spacing is not None else None,
        "acquired": image.acquired.isoformat() if image.acquired is not None else None,
        "patient_digest": image.patient_digest,
        "study_digest": image.study_digest,
        "burned_in": image.burned_in,
        "warnings": list(image.warnings),
        "grid": list(image.grid) if image.grid is not None else None,
        "patient": [image.patient.age, image.patient.sex.value],
        "origin": [image.origin.modality, image.origin.body_part, image.origin.for_processing],
    }


def _stand_in(digest: str, facts: dict[str, Any]) -> Image:
    spacing, acquired, grid = facts["pixel_spacing"], facts["acquired"], facts["grid"]
    age, sex = facts["patient"]
    return Image(
        pixels=np.broadcast_to(np.uint16(0), tuple(facts["shape"])),
        digest=digest,
        source=facts["source"],
        view=ViewPosition(facts["view"]),
        laterality=facts["laterality"],
        pixel_spacing=None if spacing is None else (spacing[0], spacing[1]),
        acquired=None if acquired is None else datetime.fromisoformat(acquired),
        patient_digest=facts["patient_digest"],
        study_digest=facts["study_digest"],
        burned_in=facts["burned_in"],
        warnings=tuple(facts["warnings"]),
        grid=None if grid is None else (grid[0], grid[1]),
        patient=Patient(age, Sex(sex)),
        origin=Origin(*facts["origin"]),
    )


def as_listed(image: Image, view: ViewPosition | None, acquired: datetime | None) -> Image:
    """`image` with what its cohort knows of it beside the file; None keeps what the file says."""
    return replace(image, view=view or image.view, acquired=acquired or image.acquired)
