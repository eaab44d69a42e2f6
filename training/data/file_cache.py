"""Every file of a cohort read once, whatever the number of epochs, runs and recipes.

A modality whose records are too large to be held in memory says by its `Converter` what array a model reads of one
record, and what else of the record is known without it. The cache holds both for each file, by the SHA-256 of the bytes
that they were made of, so that a changed file is another entry.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from consilium.domain.errors import InaccessibleFile, InputError
from consilium.domain.study import Record
from consilium.ingest.decode_pool import DecodePool
from consilium.modalities.converter import Array, Converter
from consilium.modalities.modality import FileInput
from consilium.modalities.registry import file_content, modality_of
from training.cohorts.tables import unreadable
from training.data.array_store import ArrayStore

_Content = bytes | InputError | None
_Outcome = Record | InputError | None


@dataclass(frozen=True, slots=True)
class Filling:
    """What became of the files asked for: the digest of each that is cached now, and why the others are not."""

    digests: dict[Path, str]
    refused: dict[Path, InputError]

    def __or__(self, other: Filling) -> Filling:
        """What became of the files of both."""
        return Filling(self.digests | other.digests, self.refused | other.refused)


class FileCache:
    """The files of one modality by the SHA-256 of their bytes: the array of each, and what else its record says.

    Parameters
    ----------
    folder : Path
        Of the modality; made where it is missing. Several processes may use it; they fill it one after the other.
    converter : Converter
        Of the modality.
    """

    def __init__(self, folder: Path, converter: Converter) -> None:
        self._store = ArrayStore(folder / converter.key)
        self._converter = converter

    def __len__(self) -> int:
        return len(self._store)

    def __contains__(self, digest: object) -> bool:
        return digest in self._store

    def array(self, digest: str) -> Array:
        """What the converter made of the file, memory-mapped and read-only."""
        return self._store[digest]

    def record(self, digest: str) -> Record:
        """What the file says beside that array: `Converter.stand_in`."""
        return self._converter.stand_in(digest, self._store.facts(digest))

    def fill(
        self, paths: Sequence[Path], given: FileInput, pool: DecodePool, advance: Callable[[], None] | None = None
    ) -> Filling:
        """Read and convert those of `paths` that are not cached yet.

        Parameters
        ----------
        paths : sequence of Path
        given : FileInput
            As which the modality reads them.
        pool : DecodePool
        advance : callable or None
            Called after each path.
        """
        digests: dict[Path, str] = {}
        refused: dict[Path, InputError] = {}
        with self._store.filling() as writer:
            in_decoder = (self._converter,) if self._converter.in_decoder else ()
            for path, digest, outcome in _read_all(self._unknown(paths, given), given, pool, in_decoder):
                if isinstance(outcome, InputError):
                    refused[path] = outcome
                else:
                    digests[path] = digest
                    if outcome is not None and digest not in writer:
                        writer.add(digest, self._converter(outcome), self._converter.facts(outcome))
                if advance is not None:
                    advance()
        return Filling(digests, refused)

    def _unknown(self, paths: Iterable[Path], given: FileInput) -> Iterator[tuple[Path, str, _Content]]:
        """Each path with its digest and, where it must be read, its content."""
        for path in dict.fromkeys(paths):
            try:
                content = file_content(given.name, path)
            except InputError as error:
                yield path, "", error
                continue
            except OSError as error:
                yield path, "", InaccessibleFile(given.name, path.name, unreadable(error))
                continue
            digest = hashlib.sha256(content).hexdigest()
            yield path, digest, None if digest in self._store else content


def _read_all(
    inputs: Iterable[tuple[Path, str, _Content]], given: FileInput, pool: DecodePool, converters: Sequence[Converter]
) -> Iterator[tuple[Path, str, _Outcome]]:
    """Read and convert in the pool, keeping it busy with a few files ahead; the order stays."""
    ahead, noun = 2 * pool.workers, modality_of(given.name).record
    waiting: deque[tuple[Path, str, Any]] = deque()
    for path, digest, content in inputs:
        work = pool.submit(content, given.name, noun, converters) if isinstance(content, bytes) else content
        waiting.append((path, digest, work))
        if len(waiting) > ahead:
            yield _outcome(*waiting.popleft())
    while waiting:
        yield _outcome(*waiting.popleft())


def _outcome(path: Path, digest: str, work: Any) -> tuple[Path, str, _Outcome]:
    if work is None or isinstance(work, InputError):
        return path, digest, work
    try:
        return path, digest, work.result()
    except InputError as error:
        return path, digest, error
