"""Write a phantom cohort: the folder that `training.cohorts.manifest` reads, with its truth beside it."""

from __future__ import annotations

import multiprocessing
import os
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
import pandas as pd
import yaml

from consilium.domain.errors import InputError
from consilium.formats.time_zone import TimeZone
from training.cohorts.cohort import SPLITS, Cohort
from training.cohorts.cohort_kind import CohortOptions
from training.cohorts.manifest import read_manifest
from training.cohorts.phantom.evidence import EvidenceModel
from training.cohorts.phantom.oracle import (
    EVIDENCE_FILE,
    has_modalities,
    log_likelihoods,
    posterior,
    read_records,
    save_oracle,
)
from training.cohorts.phantom.outcomes import phantom_targets
from training.cohorts.phantom.phantom_modality import Floats, Row, Target
from training.cohorts.phantom.record import Design, Drawn, Shift, draw_study, render_study, state_row, study_row
from training.cohorts.phantom.renderers import DEFAULT_MODALITIES, checked_modalities
from training.cohorts.phantom.schemes import ORDINARY
from training.cohorts.phantom.state import FINDINGS, phantom_findings
from training.cohorts.splits import stratified_parts

DEFAULT_SPLITS: Mapping[str, float] = MappingProxyType(
    {"train": 0.6, "validation": 0.08, "calibration": 0.12, "test": 0.2}
)
CHUNK = 20
"""Studies a task: fixed, so that the number of workers changes no bit."""


@dataclass(frozen=True, slots=True, eq=False)
class _Chunk:
    """What some studies add to the cohort.

    Attributes
    ----------
    studies, states, evidence : list of rows
    tables : mapping of path to rows
        Of the modalities' other tables.
    likelihoods : float64 [n, M, S]
    """

    studies: list[Row]
    states: list[Row]
    evidence: list[Row]
    tables: Mapping[str, list[Row]]
    likelihoods: Floats


def write_phantom(
    out: Path,
    studies: int,
    seed: int,
    size: int = 512,
    *,
    workers: int | None = None,
    shortcut: float | None = None,
    splits: Mapping[str, float] | None = DEFAULT_SPLITS,
    shift: Shift | None = None,
    studies_per_patient: int = 1,
    modalities: Sequence[str] = DEFAULT_MODALITIES,
    scheme: str = ORDINARY.name,
    outcomes: bool = False,
    progress: Callable[[int], None] | None = None,
) -> None:
    """Write a cohort of `studies` phantom studies to the folder `out`.

    The same arguments give the same bytes, whatever `workers` is; study i is the same in a larger cohort of that seed.

    Parameters
    ----------
    out : Path
        Must not exist, or be empty. Appears only when everything is written.
    size : int
        Rows and columns of the images.
    workers : int, optional
        Processes; None: one a core. More than one are spawned, so a script must guard its entry by ``__name__``.
    shortcut : float, optional
        Plant a shortcut: the site, with its marker and headings, follows the first finding with this strength, 0 … 1.
        The oracle does not know of it.
    splits : mapping of split to share, optional
        Shares of patients; must add up to 1. None: no split is fixed. The default ones are stratified by label; others
        are drawn, and stratified where the draw would leave a split without a positive or negative of a finding.
    shift : Shift, optional
        Departures from the stored tables, for cohorts that test a model on shifted data.
    studies_per_patient : int
        Of one state, each with evidence of its own. The oracle answers for each study by itself.
    modalities : sequence of str
        What the records are made of. Another modality beside the built-in ones changes nothing of these.
    scheme : str
        ``ordinary``, or ``interaction``: see `training.cohorts.phantom.interaction`.
    outcomes : bool
        With severity and the time to death as targets beside the findings; nothing else changes.
    progress : callable, optional
        Called with the number of studies written so far.

    Raises
    ------
    InputError
        `out` holds something, or an argument is out of range.
    """
    _check_out(out, studies)
    _check_splits(splits)
    chosen = checked_modalities(modalities)
    design = Design(seed, size, shortcut, shift or Shift(), studies_per_patient, chosen, scheme, outcomes)
    design.check()
    partial_out = out.with_name(f".{out.name}.partial-{os.getpid()}")
    out.parent.mkdir(parents=True, exist_ok=True)
    try:
        for folder in ("truth", *_folders(design.evidence())):
            (partial_out / folder).mkdir(parents=True, exist_ok=True)
        done: list[_Chunk] = []
        for chunk in _chunks(partial_out, design, studies, workers or len(os.sched_getaffinity(0))):
            done.append(chunk)
            if progress is not None:
                progress(min(len(done) * CHUNK, studies))
        _write_tables(partial_out, done, design, splits)
        _write_descriptions(partial_out, design, studies)
        partial_out.replace(out)
    finally:
        shutil.rmtree(partial_out, ignore_errors=True)


def read_phantom(root: Path, _: CohortOptions, mask_notes: bool) -> Cohort:
    """The cohort in `root`: a manifest, whose times are made up and the same on every machine."""
    return read_manifest(root, TimeZone("UTC"), mask_notes=mask_notes)


def _folders(model: EvidenceModel) -> list[str]:
    return [folder for name in model.modalities for folder in model.phantoms[name].folders]


def _check_out(out: Path, studies: int) -> None:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError("out", str(out), "must not exist, or be an empty folder")
    if not 1 <= studies <= 1_000_000:
        raise InputError("studies", studies, "must lie between 1 and 1000000")


def _check_splits(splits: Mapping[str, float] | None) -> None:
    for name, share in (splits or {}).items():
        if name not in SPLITS:
            raise InputError("splits", name, f"must be one of {', '.join(SPLITS)}")
        if not 0 <= share <= 1:
            raise InputError(f"splits[{name}]", share, "must lie between 0 and 1")
    if splits is not None and abs(sum(splits.values()) - 1) > 1e-9:
        raise InputError("splits", dict(splits), "must add up to 1")


def _chunks(root: Path, design: Design, studies: int, workers: int) -> Iterator[_Chunk]:
    """Every chunk, in order."""
    starts = range(0, studies, CHUNK)
    write = partial(_write_chunk, root, design, studies)
    if min(workers, len(starts)) <= 1:
        yield from map(write, starts)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(starts)), mp_context=context) as pool:
        yield from pool.map(write, starts)


def _write_chunk(root: Path, design: Design, studies: int, start: int) -> _Chunk:
    """Draw, render and write the files of one chunk; hand back its rows."""
    states, model = design.states(), design.evidence()
    drawn = [draw_study(design, i, states, model) for i in range(start, min(start + CHUNK, studies))]
    rendered = [render_study(design, model, study) for study in drawn]
    readings = read_records(model, drawn, rendered)
    likelihoods = log_likelihoods(states, model, readings, has_modalities(model, drawn))
    concluded = [name for name in model.modalities if name in DEFAULT_MODALITIES]
    best = posterior(states.prior, likelihoods, model.modalities, concluded)
    rows: list[Row] = []
    tables: dict[str, list[Row]] = defaultdict(list)
    for study, views, chances in zip(drawn, rendered, best, strict=True):
        target = Target(root, design, study, chances)
        written = [model.phantoms[name].write(target, views.parts.get(name)) for name in model.modalities]
        rows.append(study_row(study, written))
        for path, lines in ((path, lines) for part in written for path, lines in part.rows.items()):
            tables[path] += lines
    return _Chunk(
        studies=rows,
        states=[state_row(study, states.members) for study in drawn],
        evidence=[_evidence_row(study, model) for study in drawn],
        tables=dict(tables),
        likelihoods=likelihoods,
    )


def _evidence_row(study: Drawn, model: EvidenceModel) -> Row:
    row: Row = {"study": study.study_id}
    for name in model.modalities:
        row |= model.phantoms[name].describe(study.evidence.parts[name])
    return row | {f"has:{name}": int(study.has(name)) for name in model.modalities}


def _assign_splits(studies: pd.DataFrame, seed: int, splits: Mapping[str, float] | None) -> list[str]:
    """One split a patient, in shares as exact as whole patients allow."""
    if splits is None:
        return [""] * len(studies)
    _, first, patient = np.unique(studies["patient"], return_index=True, return_inverse=True)
    counts = _whole(np.array(list(splits.values())), len(first))
    labels = studies[[f"label:{name}" for name in FINDINGS]].to_numpy(np.float32)
    names = np.array(list(splits))
    # What was drawn for shares of somebody's own stays what it was, as far as it can be trained on.
    drawn = np.random.default_rng(np.random.SeedSequence(seed)).permutation(np.repeat(names, counts))
    split = drawn[np.argsort(np.argsort(first))][patient]
    if splits == DEFAULT_SPLITS or not _has_both_sides(labels, split, names[counts > 0]):
        generator = np.random.default_rng(np.random.SeedSequence(seed))
        shares = np.array(list(splits.values()))
        split = names[stratified_parts(labels, studies["patient"].to_numpy(), shares, generator, most=counts)]
    return [str(name) for name in split]


def _whole(shares: npt.NDArray[np.float64], patients: int) -> npt.NDArray[np.int64]:
    """How many patients each share is, in whole ones."""
    exact = shares * patients
    counts = np.floor(exact + 1e-9).astype(np.int64)
    for largest in np.argsort(counts - exact, kind="stable")[: patients - counts.sum()]:
        counts[largest] += 1
    return counts


def _has_both_sides(labels: npt.NDArray[np.float32], split: npt.NDArray[np.str_], names: npt.NDArray[np.str_]) -> bool:
    return all((labels[split == name] == side).any(axis=0).all() for name in names for side in (0, 1))


def _write_tables(root: Path, chunks: list[_Chunk], design: Design, splits: Mapping[str, float] | None) -> None:
    def joined(name: str) -> pd.DataFrame:
        return pd.DataFrame([row for chunk in chunks for row in getattr(chunk, name)])

    table = joined("studies")
    table.insert(len(table.columns) - 2, "split", _assign_splits(table, design.seed, splits))
    table["age"] = table["age"].astype("Int64")
    table.to_csv(root / "studies.csv", index=False)
    for path, columns in _other_tables(design.evidence()).items():
        rows = [row for chunk in chunks for row in chunk.tables.get(path, [])]
        pd.DataFrame(rows, columns=list(columns)).to_csv(root / path, index=False)
    joined("states").to_csv(root / "truth" / "states.csv", index=False)
    joined("evidence").to_csv(root / EVIDENCE_FILE, index=False)
    likelihoods = np.concatenate([chunk.likelihoods for chunk in chunks])
    save_oracle(root, table["study"].tolist(), design.modalities, design.states().prior, likelihoods)


def _other_tables(model: EvidenceModel) -> dict[str, tuple[str, ...]]:
    return {path: columns for name in model.modalities for path, columns in model.phantoms[name].tables.items()}


def _write_descriptions(root: Path, design: Design, studies: int) -> None:
    findings = replace(phantom_findings(), targets=phantom_targets() if design.outcomes else ())
    name = "phantom" if design.scheme == ORDINARY.name else f"{design.scheme}-phantom"
    cohort = {"name": name, **findings.to_json(), "prompts": _prompts(design.evidence())}
    (root / "cohort.yaml").write_text(yaml.safe_dump(cohort, sort_keys=False), encoding="utf-8")
    design.save(root, studies)


def _prompts(model: EvidenceModel) -> dict[str, dict[str, list[str]]]:
    """What the sites' reports say of each finding; see `PhantomModality.prompts`."""
    return {finding: found for name in model.modalities for finding, found in model.phantoms[name].prompts().items()}
