"""The caches of `CONSILIUM_HOME`: where they are, what is in them, and what of it may go.

Each folder of arrays (`training.data.array_store`) is listed and removed as a whole. One that is needed after all is
filled anew.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

from consilium.system.environment import home_folder
from training.data.array_store import INDEX, stored_arrays
from training.data.store_use import REMOVED, USE, remove_unused, unused

Kind = Literal["files", "features"]


def file_cache_folder() -> Path:
    """Where the files of all cohorts are cached."""
    return home_folder() / "cache" / "files"


def feature_cache_folder() -> Path:
    """Where the features of all encoders are kept."""
    return home_folder() / "cache" / "features"


@dataclass(frozen=True, slots=True)
class CacheFolder:
    """One folder of arrays: the files of one modality, or the features of one encoder.

    Attributes
    ----------
    arrays : int or None
        How many it holds; None where this version reads none of it, so that it is of no use.
    used : datetime
        When it was last opened or filled.
    in_use : bool
        A process has it open.
    """

    kind: Kind
    modality: str
    folder: Path
    arrays: int | None
    size: int
    used: datetime
    in_use: bool

    def to_json(self) -> dict[str, str | int | bool | None]:
        return {
            "kind": self.kind,
            "modality": self.modality,
            "folder": str(self.folder),
            "arrays": self.arrays,
            "bytes": self.size,
            "used": self.used.isoformat(timespec="seconds"),
            "in_use": self.in_use,
        }


def list_caches() -> list[CacheFolder]:
    """All folders of all caches, last used first."""
    places: tuple[tuple[Kind, Path], ...] = (("files", file_cache_folder()), ("features", feature_cache_folder()))
    found = [one for kind, place in places for folder in place.glob("*/*") for one in _described(kind, folder)]
    return sorted(found, key=lambda one: (one.used, str(one.folder)), reverse=True)


def choose(
    found: Sequence[CacheFolder], unused_for: timedelta | None = None, most_bytes: int | None = None
) -> list[CacheFolder]:
    """Which of `found` may go: what nobody can read, what was not used for so long, and then what was used least
    recently until no more than `most_bytes` are left. Nothing that a process has open.
    """
    now, left = datetime.now(UTC), sum(one.size for one in found)
    chosen = []
    for one in sorted(found, key=lambda one: (one.arrays is not None, one.used)):
        old = unused_for is not None and now - one.used > unused_for
        many = most_bytes is not None and left > most_bytes
        if not one.in_use and (one.arrays is None or old or many):
            chosen.append(one)
            left -= one.size
    return chosen


def remove(chosen: Sequence[CacheFolder]) -> list[CacheFolder]:
    """Remove those of `chosen` that nobody has opened since they were listed, and give these."""
    removed = []
    for one in chosen:
        with suppress(FileNotFoundError):  # another process was faster
            if remove_unused(one.folder):
                removed.append(one)
    return removed


def _described(kind: Kind, folder: Path) -> Iterator[CacheFolder]:
    """Nothing where it was removed meanwhile, or is no folder."""
    with suppress(FileNotFoundError, NotADirectoryError):
        size = sum(file.stat().st_size for file in folder.iterdir() if file.is_file())
        arrays = None if folder.name.endswith(REMOVED) else stored_arrays(folder)
        with unused(folder) as free:
            yield CacheFolder(kind, folder.parent.name, folder, arrays, size, _used(folder), not free)


def _used(folder: Path) -> datetime:
    times = [folder / name for name in (USE, INDEX) if (folder / name).exists()] or [folder]
    return datetime.fromtimestamp(max(path.stat().st_mtime for path in times), UTC)
