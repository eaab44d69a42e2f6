"""Score an archive: open it → plan the chunks → score those that are not there → say what became of it.

The table is a folder of Parquet files, ``part-000000.parquet`` and so on, with one row for each study; ``_scores.json``
says of which archive and model. Each file appears whole, so a scoring that was killed goes on where it was with the
same command, and no study is scored twice.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq
from filelock import FileLock, Timeout

from consilium.artifacts.artifact import load_artifact
from consilium.artifacts.model_registry import resolve
from consilium.domain.errors import InputError
from consilium.system.durable import replace_json
from training.archive.archive_sources import Archive, dicomweb, open_archive
from training.archive.chunk_scorer import Chunk, ModelToUse, ScoredChunk, part_name
from training.archive.engines import score_here, score_on_ray
from training.archive.remote_studies import FETCHED
from training.archive.score_table import REFUSED
from training.runtime.interrupts import interrupted_once

_log = logging.getLogger(__name__)

CHUNK = 64
"""Studies of one file, unless another number is given."""
STATE = "_scores.json"
"""Readers of Parquet folders pass over names that begin so."""
_LOCK = ".lock"


@dataclass(frozen=True, slots=True)
class Scoring:
    """What a folder of scores holds, as its ``_scores.json`` says.

    Attributes
    ----------
    archive : str
        SHA-256 of what was scored.
    studies, chunk : int
        How many there are, and how many a file holds.
    """

    archive: str
    name: str
    studies: int
    chunk: int
    model: str
    version: str
    manifest_digest: str


@dataclass(frozen=True, slots=True)
class ScoringSummary:
    """How a scoring ended.

    Attributes
    ----------
    refused : int
        Studies whose row holds a reason instead of an answer.
    before : int
        Studies that an earlier run of the same scoring had done.
    left_out : dict of str to int
        Files that belong to no study, by reason.
    """

    studies: int
    refused: int
    before: int
    left_out: dict[str, int]


@dataclass(frozen=True, slots=True, eq=False)
class ScoringPlan:
    """What is to be scored, by which model, where to; made by `plan_scoring`."""

    archive: Archive
    model: str
    out: Path
    scoring: Scoring

    @property
    def chunks(self) -> list[Chunk]:
        """The archive's studies, in files' portions."""
        records, size = self.archive.records, self.scoring.chunk
        return [
            Chunk(n, records[n * size : (n + 1) * size], self.archive.remote) for n in range(-(-len(records) // size))
        ]


def plan_scoring(
    source: str | Path,
    model: str,
    out: Path,
    *,
    chunk: int = CHUNK,
    matching: Mapping[str, str] | None = None,
    advance: Callable[[], None] = lambda: None,
) -> ScoringPlan:
    """Look at what there is to score with `model`, into the folder `out`.

    Parameters
    ----------
    source : str or Path
        Folder of a cohort or of DICOM files, or the URL of a DICOMweb archive.
    chunk : int
        Studies of one file of the table.
    matching : mapping of str to str, optional
        Which studies of a DICOMweb archive, as QIDO-RS takes it: ``{"StudyDate": "20250101-20251231"}``.
    advance : callable
        Called after each file of a folder of DICOM files, and each study of a DICOMweb archive.

    Raises
    ------
    InputError
        Where `source` is none of these, or a folder is to be matched.
    CohortError, ArtifactError, RegistryError, DicomWebError
        Where cohort, model or archive cannot be read.
    """
    resolved = resolve(model)
    artifact = load_artifact(resolved.folder)
    if str(source).startswith(("http://", "https://")):
        archive = dicomweb(str(source), matching or {}, advance)
    elif matching:
        raise InputError("where", ", ".join(matching), "must be given with the URL of a DICOMweb archive alone")
    else:
        archive = open_archive(Path(source), artifact.recipe, artifact.preprocessing.variables, advance)
    identity = resolved.identity
    scoring = Scoring(
        archive.digest, archive.name, len(archive), chunk, identity.name, identity.version, identity.manifest_digest
    )
    return ScoringPlan(archive, model, out, scoring)


def run_scoring(
    plan: ScoringPlan,
    *,
    workers: int = 1,
    device: str = "auto",
    backend: str = "auto",
    threads: int | None = None,
    done: Callable[[int], None] = lambda studies: None,
) -> ScoringSummary:
    """Answer every study of `plan` that has no row yet.

    Parameters
    ----------
    workers : int
        1: this process; more: as many processes on Ray.
    threads : int or None
        Of one worker's arithmetic; None: 1 where there are several.
    done : callable
        Called with the number of studies that have a row.

    Raises
    ------
    InputError
        Where the folder holds anything else than the scores of this archive and model, or another process writes
        there.
    """
    threads = 1 if threads is None and workers > 1 else threads
    use = ModelToUse(plan.model, plan.scoring.manifest_digest, device, backend, threads)
    chunks, out = plan.chunks, plan.out
    with interrupted_once(), _held(out):
        _claim(out, plan.scoring)
        missing = [one for one in chunks if not (out / part_name(one.number)).exists()]
        ended = before = len(plan.archive) - sum(len(one.records) for one in missing)
        done(ended)
        for one in _scored(missing, use, out, workers):
            ended += one.studies
            done(ended)
        refused = _count_refused(out, chunks)
    return ScoringSummary(len(plan.archive), refused, before, dict(plan.archive.left_out))


def _scored(chunks: Sequence[Chunk], model: ModelToUse, out: Path, workers: int) -> Iterator[ScoredChunk]:
    if not chunks:
        return iter(())
    return score_here(chunks, model, out) if workers == 1 else score_on_ray(chunks, model, out, workers)


@contextmanager
def _held(out: Path) -> Iterator[None]:
    """The folder, locked against a second scoring into it."""
    out.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(out / _LOCK, timeout=0):
            _remove_halves(out)
            yield
            shutil.rmtree(out / FETCHED, ignore_errors=True)
    except Timeout:
        raise InputError("out", str(out), "must be a folder that no other scoring writes into") from None


def _remove_halves(out: Path) -> None:
    """What a scoring that was killed had fetched, and the files that it was writing."""
    shutil.rmtree(out / FETCHED, ignore_errors=True)
    for begun in (f".{STATE}.*", ".part-*.parquet.*"):
        for half in out.glob(begun):
            half.unlink(missing_ok=True)


def _claim(out: Path, scoring: Scoring) -> None:
    """Note in `out` what it holds, or make sure that it holds that."""
    state = out / STATE
    if state.exists():
        if json.loads(state.read_text(encoding="utf-8")) != asdict(scoring):
            rule = "must be a new folder, or hold the scores of the same studies, model and chunk, to go on with them"
            raise InputError("out", str(out), rule)
        return
    if any(path.name != _LOCK for path in out.iterdir()):
        raise InputError("out", str(out), "must be an empty folder, or hold the scores that were begun")
    replace_json(state, asdict(scoring))


def _count_refused(out: Path, chunks: Sequence[Chunk]) -> int:
    states = (pq.read_table(out / part_name(one.number), columns=["state"])["state"] for one in chunks)
    return sum(int(pc.sum(pc.equal(one, REFUSED)).as_py() or 0) for one in states)
