"""A store of cohort versions: each is made once, appears whole or not at all, and is never changed.

`freeze` makes the first, `add` the next with more studies, `withdraw` the next without a patient. Splits are carried
over: whoever was a test patient stays one, and a new patient's split follows from the pseudonym alone. What a kill has
left half-done, the next command removes or ends.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import secrets
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout

from consilium.configuration.recipe import SplitRecipe
from consilium.domain.errors import InputError, TrainingError
from consilium.system.durable import create_file, replace_json, sync
from training.cohorts.cohort import SPLITS, StudyRecord
from training.cohorts.column_reader import STUDIES
from training.cohorts.manifest import read_manifest
from training.cohorts.splits import split_unlabelled
from training.cohorts.tables import read_table
from training.cohorts.versions.version_record import (
    RECORD,
    VERSIONS,
    CohortVersion,
    Withdrawn,
    cohort_folder,
    read_version,
    version_folders,
)
from training.lifecycle.cohorts.deduplication import repeated_studies
from training.lifecycle.cohorts.version_tables import (
    Folder,
    Others,
    content_digest,
    files_of,
    known_labels,
    read_folder,
    require_same_description,
    study_content,
    write_folder,
)

_log = logging.getLogger(__name__)

_KEY, _LOCK, _PARTIAL = "key", ".lock", ".making-"
ADDED, REMOVED, RELABELLED, DUPLICATES, WITHDRAWN = "added", "removed", "relabelled", "duplicates", "withdrawn"
Advance = Callable[[], None] | None


@dataclass(slots=True)
class _Next:
    """The next version under way: rows in order, with all that belongs to them."""

    rows: dict[str, dict[str, str]] = field(default_factory=dict)
    records: dict[str, StudyRecord] = field(default_factory=dict)
    others: dict[str, Others] = field(default_factory=dict)
    files: dict[str, Path] = field(default_factory=dict)
    changes: list[dict[str, str]] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    @classmethod
    def of(cls, base: Folder) -> _Next:
        rows = {study: dict(row) for study, row in base.rows.items()}
        return cls(rows, dict(base.records), dict(base.others), dict(base.files))

    def take(self, folder: Folder, study: str, split: str) -> None:
        self.rows[study] = {**folder.rows[study], "split": split}
        self.records[study] = replace(folder.records[study], split=split)
        self.others[study] = folder.others[study]
        self.files |= {name: folder.files[name] for name in self.named(study)}

    def named(self, study: str) -> set[str]:
        """The files of a study."""
        return files_of(self.rows[study], self.others[study])

    def drop(self, study: str) -> None:
        for of in (self.rows, self.records, self.others):
            of.pop(study, None)

    def note(self, study: str, change: str, why: str = "") -> None:
        self.changes.append({"study": study, "change": change, "why": why})
        self.counts[change] += 1


# --- what the commands do --------------------------------------------------------------------------------------------


def freeze(
    store: Path, folder: Path, *, name: str | None = None, seed: int = 0, why: str = "", advance: Advance = None
) -> CohortVersion:
    """Make the first version of a new `store`, of the studies in `folder`.

    Splits that the cohort does not fix are drawn by patient, stratified, in the default proportions of recipes.

    Raises
    ------
    InputError
        The store has a version.
    CohortError
        The cohort cannot be read.
    """
    with _changing(store):
        if version_folders(store):
            raise InputError("store", str(store), "must be new; consilium cohort add makes its next version")
        source = read_folder(cohort_folder(folder))
        if name is not None:
            source = replace(source, description={**source.description, "name": name})
        parts = split_unlabelled(source.cohort, SplitRecipe().model_dump(), seed)
        split = {source.cohort.records[row].study_id: part for part, rows in parts.items() for row in rows.tolist()}
        made = _Next()
        for study in source.rows:
            made.take(source, study, split[study])
        _leave_out_repeated(made, set(source.rows), source, seed, advance)
        for study in made.rows:
            made.note(study, ADDED)
        return _written(store, None, source.description, made, (), why)


def add(
    store: Path, folders: Sequence[Path], *, seed: int = 0, why: str = "", advance: Advance = None
) -> CohortVersion | None:
    """Make the next version: the newest with the studies in `folders`, which may be stores or versions themselves.

    Parameters
    ----------
    seed : int
        By which a new patient's split follows from the pseudonym.

    Returns
    -------
    CohortVersion or None
        None: everything was there already.

    Raises
    ------
    InputError
        There is no version; a folder has other findings, or a study of a known id that holds something else.
    CohortError
        A folder cannot be read.
    """
    with _changing(store):
        base = read_folder(_newest(store))
        gone = {one.patient for path in version_folders(store) for one in _read(path).withdrawn}
        made, new = _Next.of(base), set()
        for folder in folders:
            source = read_folder(cohort_folder(folder))
            require_same_description(base, source)
            splits = _splits(made, source, seed)
            for study in source.rows:
                new |= _taken(store, made, source, study, splits, gone)
        _leave_out_repeated(made, new, base, seed, advance)
        for study in new & made.rows.keys():
            made.note(study, ADDED)
        if not made.counts[ADDED] and not made.counts[RELABELLED]:
            return None
        return _written(store, base, base.description, made, (), why)


def withdraw(store: Path, patients: Sequence[str], *, why: str) -> CohortVersion:
    """Make the next version without `patients`, and retire the versions that held them: their studies are deleted.

    Raises
    ------
    InputError
        Without a reason, or where the newest version holds none of a patient.
    """
    if not why.strip():
        raise InputError("reason", why, "must say why, for those who read the record later")
    with _changing(store):
        base = read_folder(_newest(store))
        made, withdrawn = _Next.of(base), []
        for patient in dict.fromkeys(patients):
            studies = [study for study, row in base.rows.items() if row["patient"] == patient]
            if not studies:
                raise InputError("patient", patient, "must be a patient of the newest version")
            own = {name for study in studies for name in made.named(study)}
            for study in studies:
                made.drop(study)
                made.note(keyed_hash(store, study), REMOVED, "withdrawn")
            own -= {name for study in made.rows for name in made.named(study)}
            hashes = tuple(sorted(keyed_hash(store, content_digest(name)) for name in own))
            withdrawn.append(Withdrawn(keyed_hash(store, patient), len(studies), hashes))
        if not made.rows:
            raise InputError("patient", ", ".join(patients), "must not be all that the cohort has: delete the store")
        version = _written(store, base, base.description, made, withdrawn, why)
        _retire(store)
        return version


def keyed_hash(store: Path, text: str) -> str:
    """HMAC-SHA-256 of `text` with the store's key, by which a withdrawal can be proved without naming anybody."""
    return hmac.new((store / _KEY).read_bytes(), text.encode(), "sha256").hexdigest()


# --- what becomes of a study -----------------------------------------------------------------------------------------


def _taken(store: Path, made: _Next, source: Folder, study: str, splits: Mapping[str, str], gone: set[str]) -> set[str]:
    """Take `study` of `source` where it is new: its id, or nothing."""
    record = source.records[study]
    if gone and keyed_hash(store, record.patient_id) in gone:
        made.note(keyed_hash(store, study), WITHDRAWN, "its patient has withdrawn")
        return set()
    if study not in made.rows:
        made.take(source, study, splits[record.patient_id])
        return {study}
    same = study_content(made.records[study], made.named(study))
    if study_content(record, files_of(source.rows[study], source.others[study])) != same:
        rule = "must be new or hold what it held: a version never changes a study; give the other one an id of its own"
        raise InputError("study", study, rule)
    labels = known_labels(record, source.labels)
    before = known_labels(made.records[study], source.labels)
    changed = {name: label for name, label in labels.items() if before.get(name) != label}
    if changed:
        made.rows[study] |= changed
        why = [f"{name.partition(':')[2]} {before.get(name, 'unknown')} to {label}" for name, label in changed.items()]
        made.note(study, RELABELLED, ", ".join(why))
    return set()


def _splits(made: _Next, source: Folder, seed: int) -> dict[str, str]:
    """The split of each patient of `source`: that of the versions so far, else the source's own, else by pseudonym."""
    known = {record.patient_id: str(record.split) for record in made.records.values()}
    own = {record.patient_id: record.split for record in source.cohort.records}
    return {patient: known.get(patient) or split or split_of(patient, seed) for patient, split in own.items()}


def split_of(patient: str, seed: int) -> str:
    """The split of a new patient, in the default proportions of recipes; the same wherever and whenever it is asked."""
    digest = hashlib.sha256(f"{seed} {patient}".encode()).digest()
    place = int.from_bytes(digest[:8], "big") / 2**64
    shares = SplitRecipe().model_dump()
    bounds = np.cumsum([shares[name] for name in SPLITS])
    return SPLITS[min(int(np.searchsorted(bounds, place, side="right")), len(SPLITS) - 1)]


def _leave_out_repeated(made: _Next, new: set[str], like: Folder, seed: int, advance: Advance) -> None:
    if not new:
        return
    order = [*(study for study in made.rows if study not in new), *(study for study in made.rows if study in new)]
    cohort = replace(like.cohort, records=tuple(made.records[study] for study in order))
    for study, why in repeated_studies(cohort, [study in new for study in order], seed=seed, advance=advance).items():
        made.drop(study)
        made.note(study, DUPLICATES, why)


# --- writing ---------------------------------------------------------------------------------------------------------


@contextmanager
def _changing(store: Path) -> Iterator[None]:
    """The store, for one process at a time; what a killed one left is removed or ended first."""
    (store / VERSIONS).mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(store / _LOCK, timeout=0):
            if not (store / _KEY).exists():
                create_file(store / _KEY, secrets.token_bytes(32))
            for left in store.glob(f"{_PARTIAL}*"):
                shutil.rmtree(left)
            _retire(store)
            yield
    except Timeout:
        raise TrainingError(f"the store {store.name} is being changed by another process") from None


def _newest(store: Path) -> Path:
    folders = version_folders(store)
    if not folders:
        raise InputError("store", str(store), "must have a version; consilium cohort freeze makes the first")
    return folders[-1]


def _read(folder: Path) -> CohortVersion:
    version = read_version(folder)
    if version is None:
        raise TrainingError(f"{folder.name}: {RECORD} is missing")
    return version


def _written(
    store: Path,
    base: Folder | None,
    description: Mapping[str, object],
    made: _Next,
    withdrawn: Sequence[Withdrawn],
    why: str,
) -> CohortVersion:
    parent = None if base is None else base.version
    partial = Path(tempfile.mkdtemp(dir=store, prefix=_PARTIAL))
    try:
        rows = list(made.rows.values())
        tables = write_folder(partial, description, rows, made.others, made.changes, made.files, store)
        _require_same(made, partial)
        version = CohortVersion(
            number=1 if parent is None else parent.number + 1,
            digest=version_digest(tables, None if parent is None else parent.digest, withdrawn),
            parent=None if parent is None else parent.digest,
            name=str(description["name"]),
            made=datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
            why=why.strip(),
            studies=len(rows),
            patients=len({row["patient"] for row in rows}),
            splits=dict(sorted(Counter(row["split"] for row in rows).items())),
            changes=dict(sorted(made.counts.items())),
            withdrawn=tuple(withdrawn),
        )
        replace_json(partial / RECORD, version.to_json())
        partial.chmod(0o750)
        partial.rename(store / VERSIONS / version.folder_name)
        sync(store / VERSIONS)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    _log.info("version %d of %s: %d studies", version.number, version.name, version.studies)
    return version


def version_digest(tables: Mapping[str, str], parent: str | None, withdrawn: Sequence[Withdrawn]) -> str:
    """SHA-256 that names a version: `tables` are the SHA-256 of its tables by name."""
    facts = [dict(sorted(tables.items())), parent, [[one.patient, one.studies, list(one.files)] for one in withdrawn]]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _require_same(made: _Next, folder: Path) -> None:
    """`TrainingError` where a study of the version that was written does not read as in its source."""
    found = {record.study_id: record for record in read_manifest(folder).records}
    for study, record in made.records.items():
        files = made.named(study)
        if study not in found or study_content(found[study], files) != study_content(record, files):
            raise TrainingError(
                f"study {study} would read otherwise in the version than in its folder, so no version was made: a cell "
                "names a file in a way that is not known here"
            )


def _retire(store: Path) -> None:
    """Delete the studies of every version that holds one of a patient who has withdrawn since."""
    folders = version_folders(store)
    versions = {path: _read(path) for path in folders}
    gone: dict[Path, set[str]] = {}
    later: set[str] = set()
    for path in reversed(folders):
        gone[path] = set(later)
        later |= {one.patient for one in versions[path].withdrawn}
    for path, patients in gone.items():
        version = versions[path]
        if version.retired is None and patients and patients & hashed_patients(store, path):
            now = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
            version = replace(version, retired=now)
            replace_json(path / RECORD, version.to_json())
            _log.info("version %d is retired", version.number)
        if version.retired is not None:
            _empty(path)


def hashed_patients(store: Path, folder: Path) -> set[str]:
    """Keyed hashes of the patients in a version."""
    return {keyed_hash(store, patient) for patient in set(read_table(folder / STUDIES)["patient"])}


def _empty(folder: Path) -> None:
    """All but the record is gone when this returns."""
    for path in folder.iterdir():
        if path.name == RECORD:
            continue
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    sync(folder)
