"""Write a phantom cohort: the folder that `training.cohorts.manifest` reads, with its truth beside it."""

from __future__ import annotations

import multiprocessing
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
import pandas as pd
import yaml

from consilium.domain.errors import InputError
from consilium.domain.study import Sex
from consilium.formats.time_zone import TimeZone
from consilium.modalities.registry import modality_names, subset_key
from training.cohorts.cohort import SPLITS, Cohort
from training.cohorts.cohort_kind import CohortOptions
from training.cohorts.manifest import read_manifest
from training.cohorts.phantom import truth_files as truth
from training.cohorts.phantom.image.dx import Header, write_dx
from training.cohorts.phantom.oracle import EVIDENCE_FILE, POSTERIORS_FILE, SUBSETS, posteriors
from training.cohorts.phantom.record import (
    Design,
    Drawn,
    Rendered,
    Shift,
    draw_study,
    observation_rows,
    render_study,
    stream,
    study_row,
    witnesses,
)
from training.cohorts.phantom.state import FINDINGS, phantom_findings
from training.cohorts.phantom.text.note import render_report
from training.cohorts.phantom.truth_files import MASKS_FOLDER
from training.cohorts.splits import stratified_parts

DEFAULT_SPLITS: Mapping[str, float] = MappingProxyType(
    {"train": 0.6, "validation": 0.08, "calibration": 0.12, "test": 0.2}
)
CHUNK = 20
"""Studies a task: fixed, so that the number of workers changes no bit."""

Row = dict[str, object]


@dataclass(frozen=True, slots=True)
class _Tables:
    """Rows of every table that a chunk of studies adds to."""

    studies: list[Row]
    observations: list[Row]
    states: list[Row]
    evidence: list[Row]
    posteriors: list[Row]
    spans: list[Row]
    decisive: list[Row]


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
        Departures from the stored tables, for cohorts that test a model away from home.
    studies_per_patient : int
        Of one state, each with evidence of its own. The oracle answers for each study by itself.
    progress : callable, optional
        Called with the number of studies written so far.

    Raises
    ------
    InputError
        `out` holds something, or an argument is out of range.
    """
    _check_out(out, studies)
    _check_splits(splits)
    design = Design(seed, size, shortcut, shift or Shift(), studies_per_patient)
    design.check()
    partial_out = out.with_name(f".{out.name}.partial-{os.getpid()}")
    out.parent.mkdir(parents=True, exist_ok=True)
    try:
        (partial_out / "images").mkdir(parents=True)
        (partial_out / MASKS_FOLDER).mkdir(parents=True)
        done: list[_Tables] = []
        for tables in _chunks(partial_out, design, studies, workers or len(os.sched_getaffinity(0))):
            done.append(tables)
            if progress is not None:
                progress(min(len(done) * CHUNK, studies))
        _write_tables(partial_out, done, seed, splits)
        _write_descriptions(partial_out, design, studies)
        partial_out.replace(out)
    finally:
        shutil.rmtree(partial_out, ignore_errors=True)


def read_phantom(root: Path, _: CohortOptions, mask_notes: bool) -> Cohort:
    """The cohort in `root`: a manifest, whose times are made up and the same on every machine."""
    return read_manifest(root, TimeZone("UTC"), mask_notes=mask_notes)


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


def _chunks(root: Path, design: Design, studies: int, workers: int) -> Iterator[_Tables]:
    """Tables of every chunk, in order."""
    starts = range(0, studies, CHUNK)
    write = partial(_write_chunk, root, design, studies)
    if min(workers, len(starts)) <= 1:
        yield from map(write, starts)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(starts)), mp_context=context) as pool:
        yield from pool.map(write, starts)


def _write_chunk(root: Path, design: Design, studies: int, start: int) -> _Tables:
    """Draw, render and write the images and masks of one chunk; hand back its rows."""
    states, model = design.states(), design.evidence()
    drawn = [draw_study(design, i, states, model) for i in range(start, min(start + CHUNK, studies))]
    rendered = [render_study(design, study) for study in drawn]
    best = posteriors(states, model, witnesses(drawn, rendered, model))
    everything = best[subset_key(modality_names())]
    return _Tables(
        studies=[
            _write_study(root, design, study, views, chance)
            for study, views, chance in zip(drawn, rendered, everything, strict=True)
        ],
        observations=[
            row
            for study, views in zip(drawn, rendered, strict=True)
            for row in observation_rows(study, views.measurements)
        ],
        states=[truth.state_row(study) for study in drawn],
        evidence=[truth.evidence_row(study, model) for study in drawn],
        posteriors=[
            {"study": study.study_id, "subset": subset, **dict(zip(FINDINGS, row.tolist(), strict=True))}
            for subset, chances in best.items()
            for study, row in zip(drawn, chances, strict=True)
        ],
        spans=[row for pair in zip(drawn, rendered, strict=True) for row in truth.span_rows(*pair)],
        decisive=[row for pair in zip(drawn, rendered, strict=True) for row in truth.decisive_rows(*pair)],
    )


def _write_study(root: Path, design: Design, study: Drawn, rendered: Rendered, chance: npt.NDArray[np.float64]) -> Row:
    """Write one study's image and masks; its row of the table."""
    image, report = "", None
    if rendered.radiograph is not None:
        image = f"images/{study.study_id}.dcm"
        known = study.has("observations")
        header = Header(
            seed=f"{design.seed} {design.size} {design.shortcut} {design.shift} {study.index}",
            patient_id=study.patient_id,
            study_id=study.study_id,
            site=study.site,
            acquired=study.reference_time,
            age=study.state.age if known else None,
            sex=study.state.sex if known else Sex.UNKNOWN,
        )
        write_dx(root / image, rendered.radiograph, header)
        truth.write_masks(root, study.study_id, rendered.radiograph.masks)
        report = render_report(study.evidence.image, chance, stream(design, study.index, "report"))
    return study_row(study, rendered, report, image)


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


def _write_tables(root: Path, chunks: list[_Tables], seed: int, splits: Mapping[str, float] | None) -> None:
    def joined(name: str) -> pd.DataFrame:
        return pd.DataFrame([row for tables in chunks for row in getattr(tables, name)])

    table = joined("studies")
    table.insert(len(table.columns) - 2, "split", _assign_splits(table, seed, splits))
    table["age"] = table["age"].astype("Int64")
    table.to_csv(root / "studies.csv", index=False)
    observations = joined("observations")
    if observations.empty:
        observations = pd.DataFrame(columns=["study", "code", "value", "unit", "time"])
    observations.to_csv(root / "observations.csv", index=False)
    joined("states").to_csv(root / "truth" / "states.csv", index=False)
    joined("evidence").to_csv(root / EVIDENCE_FILE, index=False)
    best = joined("posteriors").sort_values("subset", key=lambda names: names.map(SUBSETS.index), kind="stable")
    best.to_csv(root / POSTERIORS_FILE, index=False, float_format="%.12g")
    joined("spans").to_csv(root / "truth" / "spans.csv", index=False)
    joined("decisive").to_csv(root / "truth" / "decisive.csv", index=False)


def _write_descriptions(root: Path, design: Design, studies: int) -> None:
    findings = phantom_findings()
    cohort = {"name": "phantom", **findings.to_json()}
    (root / "cohort.yaml").write_text(yaml.safe_dump(cohort, sort_keys=False), encoding="utf-8")
    plan = {**asdict(design), "studies": studies}
    plan["shift"] = {key: dict(value) if isinstance(value, Mapping) else value for key, value in plan["shift"].items()}
    (root / "truth" / "design.yaml").write_text(yaml.safe_dump(plan, sort_keys=False), encoding="utf-8")
