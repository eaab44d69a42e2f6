"""A cohort whose files lie in the cache, read once for all epochs, runs and recipes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from consilium.configuration.recipe import Recipe
from consilium.domain.errors import CohortError, InaccessibleFile, InputError, Problem
from consilium.domain.study import Record, RecordFile, Study
from consilium.ingest.decode_pool import DecodePool
from consilium.modalities.converter import Array, Converter
from consilium.modalities.registry import file_inputs, find_modality, with_article
from consilium.preprocessing.collate import Preprocessing, converters
from consilium.preprocessing.encoder_start import EncoderStart
from training.cohorts.cohort import Cohort, StudyRecord
from training.data.file_cache import FileCache, Filling

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class CachedCohort:
    """A cohort whose files lie in the cache.

    Attributes
    ----------
    cohort : Cohort
    caches : mapping of str to FileCache
        Of each modality that keeps its files so.
    studies : tuple of Study
        One per record, in order; the records that were read of files are without what the cache holds.
    refused : dict of str to str
        File (as the cohort names it) → why it could not be used.
    starts : mapping of str to EncoderStart
        The pretrained encoders that whoever trains on it begins from, by modality.
    """

    cohort: Cohort
    caches: Mapping[str, FileCache]
    studies: tuple[Study, ...]
    refused: dict[str, str]
    starts: Mapping[str, EncoderStart] = field(default_factory=dict)

    def preprocessing(self, recipe: Recipe, rows: Iterable[int]) -> Preprocessing:
        """What `recipe` learns of the studies at `rows` before anything else is trained.

        Raises
        ------
        InputError
            Where they hold nothing of a modality to learn from.
        """
        studies = (self.studies[row] for row in rows)
        return Preprocessing.fit(recipe, studies, self.cohort.variables, self.starts)

    def array(self, modality: str, record: Record) -> Array:
        """What the cache holds of a record of one of `studies`."""
        return self.caches[modality].array(record.digest)


@dataclass(frozen=True, slots=True, eq=False)
class ReadFiles:
    """What became of a cohort's files.

    Attributes
    ----------
    caches : mapping of str to FileCache
        By modality.
    filling : Filling
        Of all modalities together.
    """

    caches: Mapping[str, FileCache]
    filling: Filling

    def record(self, modality: str, file: RecordFile) -> Record | None:
        """What `file` was read as, with what the cohort knows of it; None where it was refused, or not asked for."""
        digest = self.filling.digests.get(file.path)
        if digest is None or modality not in self.caches:
            return None
        record: Record = file.listed(self.caches[modality].record(digest))
        return record


def read_files(
    cohort: Cohort,
    read_by: Mapping[str, Converter],
    folder: Path,
    advance: Callable[[], None] | None = None,
) -> ReadFiles:
    """Read the files of the modalities in `read_by` into the cache at `folder`, as far as they are not there.

    Parameters
    ----------
    cohort : Cohort
    read_by : mapping of str to Converter
        By modality.
    folder : Path
    advance : callable or None
        Called after each file.
    """
    caches = {name: FileCache(folder / name, converter) for name, converter in read_by.items()}
    filling = Filling({}, {})
    with DecodePool(start=False) as pool:
        for name, cache in caches.items():
            files = [file for record in cohort.records for file in record.files[name]]
            for field in dict.fromkeys(file.field for file in files):
                paths = [file.path for file in files if file.field == field]
                filling |= cache.fill(paths, file_inputs()[field], pool, advance)
    return ReadFiles(caches, filling)


def cache_cohort(
    cohort: Cohort,
    recipe: Recipe,
    folder: Path,
    advance: Callable[[], None] | None = None,
    starts: Mapping[str, EncoderStart] | None = None,
) -> CachedCohort:
    """Read the files of `cohort` that `recipe` reads into the cache at `folder`, as far as they are not there.

    A file that cannot be decoded is left out of its study, which keeps a warning. One that the operating system does
    not hand out may be sound, and is a problem of the cohort. `starts` are kept beside it for whoever trains.

    Raises
    ------
    CohortError
        Where a file cannot be read, or records of one study belong to different patients or studies.
    """
    read = read_files(cohort, converters(recipe.modalities), folder, advance)
    studies, problems = [], []
    for row, record in enumerate(cohort.records, start=2):
        problems += _inaccessible(row, record, cohort, read.filling)
        try:
            studies.append(_study(record, read))
        except InputError as error:
            problems.append(Problem("studies", row, error.field, error.value, error.rule))
    if problems:
        raise CohortError(problems)
    refused = {
        path.relative_to(cohort.root).as_posix(): f"{type(error).__name__}: {error.field}: {error.rule}"
        for path, error in read.filling.refused.items()
    }
    if refused:
        _log.warning("%d file(s) could not be used; their studies go on without", len(refused))
    return CachedCohort(cohort, read.caches, tuple(studies), refused, starts or {})


def _inaccessible(row: int, record: StudyRecord, cohort: Cohort, filling: Filling) -> list[Problem]:
    refused = [(file, filling.refused.get(file.path)) for file in record.every_file]
    return [
        Problem("studies", row, file.field, file.path.relative_to(cohort.root).as_posix(), error.rule)
        for file, error in refused
        if isinstance(error, InaccessibleFile)
    ]


def _study(record: StudyRecord, read: ReadFiles) -> Study:
    warnings = list(record.warnings)
    found: dict[str, list[Record]] = {}
    for name, files in record.files.items():
        records = [read.record(name, file) for file in files]
        found[name] = [one for one in records if one is not None]
        warnings += [
            f"{with_article(find_modality(name).record)} left out: {error.rule}"
            for file in files
            if (error := read.filling.refused.get(file.path)) is not None
        ]
    return replace(record, warnings=tuple(warnings)).study(found)
