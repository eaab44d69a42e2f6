"""One chunk of an archive becomes one file of the table. The same object does it in this process and on Ray."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from consilium.domain.errors import InputError
from consilium.domain.study import Record, RecordFile
from consilium.inference.diagnostician import Diagnostician
from consilium.ingest.decode_pool import DecodePool
from consilium.modalities.registry import file_inputs
from consilium.preprocessing.batch import Prepared
from consilium.system.durable import replace_file
from consilium.system.threads import limit_threads
from training.archive.remote_studies import FETCHED, RemoteStudies, Unfetched
from training.archive.score_table import REFUSED, refused_row, scored_row, table_schema
from training.cohorts.cohort import StudyRecord

_BATCH = 16
"""Studies that are in memory, and go through the network, at once."""


def part_name(number: int) -> str:
    """Of the file that holds chunk `number`."""
    return f"part-{number:06d}.parquet"


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some of an archive's studies, always the same ones under one number."""

    number: int
    records: Sequence[StudyRecord]
    remote: RemoteStudies | None = None
    """Where their files are fetched from, if they are not on disk."""


@dataclass(frozen=True, slots=True)
class ScoredChunk:
    """What became of a chunk."""

    number: int
    studies: int
    refused: int


@dataclass(frozen=True, slots=True)
class ModelToUse:
    """Which model scores, and on what; enough to load it in another process."""

    source: str
    digest: str
    device: str = "auto"
    backend: str = "auto"
    threads: int | None = None


class ChunkScorer:
    """Writes the file of each chunk that it is given; a context manager.

    Files are decoded in a process beside this one, because no file of an archive can be trusted. It takes turns with
    this one, so that one scorer keeps one core busy.

    Parameters
    ----------
    folder : Path
        Of the table.

    Raises
    ------
    ArtifactError, RegistryError
        Where the model is not there, or became another one since the scoring began.
    """

    def __init__(self, model: ModelToUse, folder: Path) -> None:
        limit_threads(model.threads)
        self._diagnostician = Diagnostician.load(model.source, model.device, model.backend)
        identity = self._diagnostician.identity
        if identity.manifest_digest != model.digest:
            rule = "must stay the model that the scoring began with; name a version instead of an alias"
            raise InputError("model", model.source, rule)
        self._schema = table_schema(self._diagnostician.findings, identity)
        self._folder = folder
        self._decoder = DecodePool(1, start=False)

    def __enter__(self) -> ChunkScorer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the decoding process."""
        self._decoder.close()

    def __call__(self, chunk: Chunk) -> ScoredChunk:
        """Score `chunk` and put its file in place, whole."""
        starts = range(0, len(chunk.records), _BATCH)
        fetched = self._on_disk if chunk.remote is None else partial(self._fetched, chunk.remote)
        rows: list[dict[str, Any]] = []
        for start in starts:
            with fetched(chunk.records[start : start + _BATCH]) as records:
                rows += self._scored(records)
        sink = pa.BufferOutputStream()
        pq.write_table(pa.Table.from_pylist(rows, schema=self._schema), sink, compression="zstd")
        replace_file(self._folder / part_name(chunk.number), sink.getvalue().to_pybytes())
        return ScoredChunk(chunk.number, len(rows), sum(row["state"] == REFUSED for row in rows))

    @contextmanager
    def _on_disk(self, records: Sequence[StudyRecord]) -> Iterator[Sequence[StudyRecord | Unfetched]]:
        yield records

    @contextmanager
    def _fetched(
        self, remote: RemoteStudies, records: Sequence[StudyRecord]
    ) -> Iterator[Sequence[StudyRecord | Unfetched]]:
        """Studies with their files, which are deleted after the block; of those that cannot be had, why."""
        room = self._folder / FETCHED
        room.mkdir(mode=0o700, exist_ok=True)
        with TemporaryDirectory(dir=room) as folder:
            yield list(remote.fetch(records, Path(folder)))

    def _scored(self, records: Sequence[StudyRecord | Unfetched]) -> list[dict[str, Any]]:
        """The rows of some studies, which are in memory together."""
        rows: dict[int, dict[str, Any]] = {}
        ready: dict[int, Prepared] = {}
        waiting = [self._submitted(record) for record in records]
        for number, (record, files) in enumerate(zip(records, waiting, strict=True)):
            try:
                read = _records_of(files)
                assert isinstance(record, StudyRecord)
                ready[number] = self._diagnostician.prepare(record.study(read))
            except InputError as error:
                rows[number] = refused_row(record.study_id, error, self._diagnostician.identity)
        answers = self._diagnostician.diagnose_prepared(list(ready.values()))
        for number, answer in zip(ready, answers, strict=True):
            rows[number] = scored_row(records[number].study_id, answer)
        return [rows[number] for number in range(len(records))]

    def _submitted(self, record: StudyRecord | Unfetched) -> _Files | InputError:
        """The files of a study on their way through the decoder; the error where there are too many."""
        if isinstance(record, Unfetched):
            return record.reason
        files = {name: of for name, of in record.files.items() if name in self._diagnostician.recipe.modalities}
        for of in files.values():
            for field in dict.fromkeys(file.field for file in of):
                most, count = file_inputs()[field].most.most, sum(file.field == field for file in of)
                if count > most:
                    return InputError(field, count, f"must be at most {most} in one study")
        return {
            name: [(file, self._decoder.submit(file.path, file.field)) for file in of] for name, of in files.items()
        }


_Files = Mapping[str, Sequence[tuple[RecordFile, "Future[Any]"]]]


def _records_of(files: _Files | InputError) -> dict[str, list[Record]]:
    """What the files of a study were read as; the error of the first that is refused."""
    if isinstance(files, InputError):
        raise files
    return {modality: [file.listed(decoded.result()) for file, decoded in of] for modality, of in files.items()}
