"""The public covid-chestxray-dataset (Cohen et al., 2020, arXiv 2006.11988), as published or as a part of it.

A folder with `metadata.csv` and the images it names. Every X-ray image is one study; a patient groups studies. Two
tasks:

- ``severity``: one finding, `severe_course`: intensive care or intubation at any time of the illness.
- ``aetiology``: six exclusive causes. The year, the hosting site and the pattern of filled fields tell more of it than
  any image does, so a model of it says little about medicine.

The clinical notes mix history with what the radiologist saw, so they are kept as one note of kind history. The column
`other_notes` holds credits to named people and is not read.
"""

from __future__ import annotations

import logging
import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

import numpy as np
import numpy.typing as npt
import pandas as pd

from consilium.domain.errors import CohortError, InputError, Problem
from consilium.domain.findings import Finding, FindingSet
from consilium.domain.study import Patient, RecordFile, Sex
from consilium.formats.decimals import parse_decimal, read_decimal
from consilium.formats.demographics import read_age, read_sex
from consilium.masking import mask_text
from consilium.modalities.image.image_record import ViewPosition
from consilium.modalities.observations.observation import Observation
from consilium.modalities.observations.records import read_observations
from consilium.modalities.text.note import Note, NoteKind
from training.cohorts.cohort import Cohort, StudyRecord, cohort_digest
from training.cohorts.cohort_kind import CohortKind, CohortOptions
from training.cohorts.hannover_labs import DAY_OF_IMAGE, read_labs
from training.cohorts.label_masking import WordMask, load_word_mask
from training.cohorts.tables import ABSENT, file_problem, read_table

logger = logging.getLogger(__name__)

NAME = "covid-chestxray"
TABLE = "metadata.csv"
TASKS: Mapping[str, FindingSet] = {
    "severity": FindingSet((Finding("severe_course", "Intensive care or intubation"),)),
    "aetiology": FindingSet(
        (
            Finding("covid_19", "COVID-19"),
            Finding("other_viral", "Other viral pneumonia"),
            Finding("bacterial", "Bacterial pneumonia"),
            Finding("fungal", "Fungal pneumonia"),
            Finding("other", "Other or unstated cause"),
            Finding("no_finding", "No finding"),
        ),
        exclusive=True,
    ),
}
SAME_PEOPLE = (
    ("78", "201"),
    ("97", "178"),
    ("192", "196"),
    ("137", "202"),
    ("285", "339"),
    ("287", "340"),
)
"""Patient ids of the public table that stand for one person each."""

_REQUIRED = ("patientid", "finding", "modality", "filename")
_OPTIONAL = (
    *("offset", "sex", "age", "intubated", "intubation_present", "went_icu", "in_icu", "temperature"),
    *("po2_saturation", "leukocyte_count", "neutrophil_count", "lymphocyte_count", "view", "date", "folder"),
    *("doi", "url", "clinical_notes"),
)
_ALIASES = {"wbc_count": "leukocyte_count"}
_VIEWS = {
    "PA": ViewPosition.PA,
    "AP": ViewPosition.AP,
    "AP ERECT": ViewPosition.AP,
    "AP SUPINE": ViewPosition.AP_SUPINE,
    "APS": ViewPosition.AP_SUPINE,
    "L": ViewPosition.LATERAL,
    "LATERAL": ViewPosition.LATERAL,
}
# In this order: a COVID-19 case with ARDS is a COVID-19 case.
_CAUSES = {
    "covid_19": r"covid|sars-cov-2",
    "fungal": r"pneumocystis|aspergill|candida|cryptococc|histoplasm|fung",
    "bacterial": r"bacteri|strepto|staphylo|mrsa|klebsiella|legionella|mycoplasma|chlamyd|e\.? ?coli|nocardia|tubercul",
    "other_viral": r"sars|mers|influenza|h1n1|varicella|herpes|viral",
    "no_finding": r"no finding",
    "other": r"ards|pneumonia|lipoid|aspiration",
}
_OBSERVATIONS = {
    "temperature": ("8310-5", "Cel"),
    "po2_saturation": ("59408-5", "%"),
    "leukocyte_count": ("26464-8", "10*3/uL"),
    "neutrophil_count": ("26499-4", "10*3/uL"),
    "lymphocyte_count": ("26474-7", "10*3/uL"),
}
# Its own table gives a partial pressure in mmHg, of blood not declared arterial; the public table calls it percent.
_PARTIAL_PRESSURE_SOURCE = "ml-workgroup/covid-19-image-repository"


class CovidChestxrayOptions(CohortOptions):
    """What is learned from the cohort, and of which records."""

    task: str = ""
    """``severity`` or ``aetiology``."""
    mask_label_words: bool = True
    """Blank the words of a note that give the label away."""
    strict: bool = False
    """Leave out records made after the outcome."""
    labs: str | None = None
    """Laboratory values of some of the images: the table of the COVID-19 Image Repository, or its folder. A relative
    path begins in the cohort's folder."""


def _read_kind(root: Path, options: CovidChestxrayOptions, mask_notes: bool) -> Cohort:
    return read_covid_chestxray(
        root,
        options.task,
        mask_label_words=options.mask_label_words,
        strict=options.strict,
        mask_notes=mask_notes,
        labs=None if options.labs is None else root / options.labs,
    )


KIND = CohortKind(
    name=NAME,
    read=f"{__name__}:_read_kind",
    recognises=lambda root: (root / TABLE).is_file(),
    options=CovidChestxrayOptions,
)


def read_covid_chestxray(
    root: Path,
    task: str,
    *,
    mask_label_words: bool = True,
    strict: bool = False,
    weak_negatives: bool = True,
    mask_notes: bool = True,
    labs: Path | None = None,
) -> Cohort:
    """Read the cohort at `root` for `task`.

    Parameters
    ----------
    root : Path
        Holds ``metadata.csv``. A full clone will do: CT rows and images that are not on disk are left out, with their
        number in the log.
    task : str
        ``severity`` or ``aetiology``.
    mask_label_words : bool
        Blank the words of ``covid_masked_words.yaml`` in the notes.
    strict : bool
        Leave out images taken in intensive care or while intubated, and later ones of the same patient: they show the
        outcome's consequences, not its signs.
    mask_notes : bool
        Take names, dates and identifiers out of the notes.
    weak_negatives : bool
        Take a patient as not severe where only `intubated` says no and nothing is known of intensive care; False makes
        the label of these unknown.
    labs : Path or None
        Table of laboratory values, joined by file name: see `training.cohorts.hannover_labs`.

    Raises
    ------
    InputError
        Where there is no such task.
    CohortError
        Where the table lacks a column, names files outside `root`, or no image that it names is there.
    """
    if task not in TASKS:
        raise InputError("cohort.task", task, f"must be one of {', '.join(TASKS)} for {NAME}")
    left_out: Counter[str] = Counter()
    table = _read_metadata(root)
    labels = _severity(table, weak_negatives) if task == "severity" else _aetiology(table)
    after = _after_outcome(table)
    usable = _usable(table, root, left_out)
    if strict:
        left_out["image taken after the outcome"] = int((usable & after).sum())
        usable = usable & ~after
    table, labels = table[usable], labels[usable]
    mask = load_word_mask("covid_masked_words.yaml", task) if mask_label_words else None
    if mask_notes:
        table = table.assign(clinical_notes=table.clinical_notes.map(lambda text: mask_text(text).text))
    rows = cast("list[dict[str, str]]", table.to_dict("records"))
    records = tuple(_record(row, label, root, mask, left_out) for row, label in zip(rows, labels, strict=True))
    if labs is not None:
        records = _with_labs(records, read_labs(labs))
    for reason, number in sorted(left_out.items()):
        if number:
            logger.warning("%s: %d left out: %s", NAME, number, reason)
    if not records:
        raise CohortError([Problem(TABLE, None, "filename", 0, "no row is left to learn from")])
    digest = cohort_digest(NAME, task, TASKS[task], records, root)
    return Cohort(NAME, TASKS[task], records, root, digest, task)


def _read_metadata(root: Path) -> pd.DataFrame:
    table = read_table(root / TABLE)
    names = table.columns.str.strip().str.lower().str.replace(" ", "_")
    table.columns = pd.Index([_ALIASES.get(name, name) for name in names])
    missing = [name for name in _REQUIRED if name not in table]
    if missing:
        raise CohortError([Problem(TABLE, None, name, None, "must be there as a column") for name in missing])
    known = table.reindex(columns=[*_REQUIRED, *_OPTIONAL], fill_value="").apply(lambda column: column.str.strip())
    known["path"] = known.folder.replace("", "images") + "/" + known.filename
    known["patient"] = _merged_patients(known)
    known["days"] = [math.nan if (days := parse_decimal(cell)) is None else days.value for cell in known.offset]
    return known


def _usable(table: pd.DataFrame, root: Path, left_out: Counter[str]) -> npt.NDArray[np.bool_]:
    """Which rows are X-rays whose image is on disk, each image once."""
    xray = table.modality.str.lower().str.replace("-", "").isin(["xray", "cr", "dx"])
    repeated = xray & table[xray].duplicated("path").reindex(table.index, fill_value=False)
    wanted = xray & ~repeated
    rules = table.path[wanted].map(lambda path: file_problem(root, path) or "")
    broken = rules[~rules.isin(["", ABSENT])]
    if len(broken):
        raise CohortError(
            [
                Problem(TABLE, row + 2, "filename", path, rule)
                for row, path, rule in zip(broken.index.tolist(), table.path[broken.index], broken, strict=True)
            ]
        )
    absent = wanted & (rules == ABSENT).reindex(table.index, fill_value=False)
    if (wanted == absent).all():
        rule = f"must be on disk; none of the {int(wanted.sum())} X-ray images named is"
        raise CohortError([Problem(TABLE, None, "filename", root.name, rule)])
    left_out["not an X-ray"] = int((~xray).sum())
    left_out["image listed before"] = int(repeated.sum())
    left_out["image not on disk"] = int(absent.sum())
    return (wanted & ~absent).to_numpy(bool)


def _merged_patients(table: pd.DataFrame) -> pd.Series:
    """One id per person: ids known to be the same people, and ids that share an image file."""
    parent = {patient: patient for patient in table.patientid} | {p: p for pair in SAME_PEOPLE for p in pair}

    def first(patient: str) -> str:
        while parent[patient] != patient:
            patient = parent[patient]
        return patient

    shared = table.groupby("path").patientid.unique()
    for same in [*SAME_PEOPLE, *(tuple(ids) for ids in shared if len(ids) > 1)]:
        for other in same[1:]:
            parent[first(other)] = first(same[0])
    return table.patientid.map(first)


def _ever(table: pd.DataFrame, columns: list[str], value: str) -> pd.Series:
    """Whether any row of the row's patient holds `value` in any of `columns`."""
    found = table[columns].apply(lambda column: column.str.upper()).eq(value).any(axis=1)
    return found.groupby(table.patient).transform("any")


def _severity(table: pd.DataFrame, weak_negatives: bool) -> npt.NDArray[np.float32]:
    yes = _ever(table, ["went_icu", "intubated", "in_icu", "intubation_present"], "Y")
    no = _ever(table, ["went_icu", "intubated"] if weak_negatives else ["went_icu"], "N") & ~yes
    return np.select([yes, no], [1.0, 0.0], np.nan).astype(np.float32)[:, None]


def _aetiology(table: pd.DataFrame) -> npt.NDArray[np.float32]:
    names = TASKS["aetiology"].names
    labels = np.full((len(table), len(names)), np.nan, np.float32)
    for row, finding in enumerate(table.finding):
        cause = next((name for name, pattern in _CAUSES.items() if re.search(pattern, finding, re.IGNORECASE)), None)
        if cause is not None:
            labels[row] = np.eye(len(names), dtype=np.float32)[names.index(cause)]
    return labels


def _after_outcome(table: pd.DataFrame) -> npt.NDArray[np.bool_]:
    shown = table[["in_icu", "intubation_present"]].apply(lambda column: column.str.upper()).eq("Y").any(axis=1)
    first = table.days.where(shown).groupby(table.patient).transform("min")
    return (shown | (table.days > first)).to_numpy(bool)


def _record(
    row: Mapping[str, str], label: npt.NDArray[np.float32], root: Path, mask: WordMask | None, left_out: Counter[str]
) -> StudyRecord:
    text = row["clinical_notes"]
    text = mask(text) if mask else text
    observations, warnings = _observations(row, left_out)
    age, sex, doubts = _demographics(row, left_out)
    view = _VIEWS.get(row["view"].upper(), ViewPosition.UNKNOWN)
    return StudyRecord(
        study_id=row["path"].removeprefix("images/"),
        patient_id=row["patient"],
        labels=label,
        files={"image": (RecordFile("images", root / row["path"], {} if view is None else {"view": view}),)},
        parts={"text": (Note(NoteKind.HISTORY, text),) if text else (), "observations": observations},
        patient=Patient(age, sex),
        source=_source(row["url"], row["doi"]),
        date=_year(row["date"]),
        warnings=(*warnings, *doubts),
    )


def _with_labs(
    records: tuple[StudyRecord, ...], labs: Mapping[str, tuple[Observation, ...]]
) -> tuple[StudyRecord, ...]:
    """`records` with the values of their images, each on the made-up day that the values' days are counted from."""
    found = []
    for record in records:
        values = labs.get(record.files["image"][0].path.name, ())
        parts = {**record.parts, "observations": (*record.parts["observations"], *values)}
        found.append(replace(record, parts=parts, reference_time=DAY_OF_IMAGE) if values else record)
    number = sum(record.reference_time is not None for record in found)
    logger.info("%s: laboratory values of %d of %d images", NAME, number, len(found))
    return tuple(found)


def _observations(row: Mapping[str, str], left_out: Counter[str]) -> tuple[tuple[Observation, ...], tuple[str, ...]]:
    raw = []
    for column, (code, unit) in _OBSERVATIONS.items():
        value = _number(row[column], column, left_out)
        if value is None:
            continue
        if column == "po2_saturation" and (value > 100 or _PARTIAL_PRESSURE_SOURCE in row["url"]):
            left_out["oxygen value in mmHg, of unstated blood, in a column of percent"] += 1
            continue
        raw.append({"code": code, "value": value, "unit": unit})
    return read_observations(raw)


def _demographics(row: Mapping[str, str], left_out: Counter[str]) -> tuple[float | None, Sex, tuple[str, ...]]:
    """Age and sex, not known where they cannot be read, and warnings."""
    age, sex = None, Sex.UNKNOWN
    warnings: tuple[str, ...] = ()
    try:
        age, warnings = read_age(row["age"], "patient.age")
    except InputError:
        left_out["age that cannot be read"] += 1
    try:
        sex = read_sex(row["sex"], "patient.sex")
    except InputError:
        left_out["sex that cannot be read"] += 1
    return age, sex, warnings


def _number(text: str, column: str, left_out: Counter[str]) -> float | None:
    if not text:
        return None
    try:
        number, warnings = read_decimal(text, column)
    except InputError:
        left_out[f"{column} that is no finite number"] += 1
        return None
    for warning in warnings:
        logger.warning("%s: %s", NAME, warning)
    return number


def _source(url: str, doi: str) -> str | None:
    """The hosting site: the URL's host, else the DOI's registrant."""
    host = (urlsplit(url if "//" in url else f"//{url}").hostname or "") if url else ""
    return host.removeprefix("www.") or (f"doi.org/{doi.split('/', maxsplit=1)[0]}" if doi else None)


def _year(date: str) -> str | None:
    if full := re.search(r"\b(?:19|20)\d\d\b", date):
        return full.group()
    short = re.fullmatch(r"\d{1,2}/\d{1,2}/(\d\d)", date)
    return f"20{short.group(1)}" if short else None
