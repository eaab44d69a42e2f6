"""Where a record came from: everything of it that a model should not need to see what a patient has.

`provenance` gives one table of features per group of facts. None of them is pathology, but some may be medicine all the
same (`AMBIGUOUS`): who is too ill to stand is imaged lying down, what was measured tells what was feared, and how well
an image can be compressed depends on what it shows.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import product

import numpy as np
import numpy.typing as npt
import pandas as pd

from consilium.configuration.modality_sections import Scope
from consilium.domain.errors import InputError
from consilium.domain.study import Sex, Study
from consilium.domain.variables import VariableTable
from consilium.modalities.image.image_record import Image, ViewPosition
from consilium.modalities.image.letterbox import Letterbox
from consilium.modalities.text.note import NoteKind
from training.audit.file_facts import FileFacts, read_file_facts
from training.cohorts.cohort import StudyRecord
from training.data.datamodule import CachedCohort
from training.evaluation.baselines import readable_study

GROUPS: Mapping[str, str] = {
    "source": "the site",
    "device": "the device",
    "format": "the file format",
    "size": "the image's size and pixel spacing",
    "compression": "the file's compression",
    "markers": "burned-in markers",
    "notes": "the number and length of the notes",
    "date": "the date and hour",
    "missingness": "which fields are filled",
    "view": "the view position",
}
"""What each group is called in a sentence."""
AMBIGUOUS = ("compression", "missingness", "view")
"""Groups that may carry medicine, too."""

_MOST_CATEGORIES = 100
_CORNER = 0.15
"""Share of an image's side that a corner takes."""
_SATURATED = 0.99 * 65535

Row = dict[str, object]


def provenance(cached: CachedCohort, inputs: Scope) -> dict[str, pd.DataFrame]:
    """Features of every study, by group, in the order of `GROUPS`.

    Parameters
    ----------
    cached : CachedCohort
        Of a study with several images, the first that could be decoded speaks for format, size, device and view.
    inputs : Scope
        Notes and values count where the model would read them.

    Returns
    -------
    dict of str to DataFrame
        N rows each. Numbers are float64 with NaN for unknown; names are categories. Groups in which all studies are
        alike, and columns of them, are left out: they can tell nothing.
    """
    rows: dict[str, list[Row]] = {group: [] for group in GROUPS}
    for record, study in zip(cached.cohort.records, cached.studies, strict=True):
        seen = study.images[0] if study.images else None
        facts = _file_facts(cached, record, study)
        readable = readable_study(record, inputs)
        moment = _moment(record, study)
        rows["source"].append({"source": record.source, "institution": facts.institution if facts else None})
        rows["device"].append(_named("device", facts.device if facts else ()))
        rows["format"].append({"source": seen and seen.source, "encoding": facts and facts.encoding})
        rows["size"].append(_size(seen))
        rows["compression"].append(_compression(seen, facts))
        rows["markers"].append(_markers(seen, cached))
        rows["notes"].append(_note_lengths(readable))
        rows["date"].append(_date(record, moment))
        rows["missingness"].append(_filled(record, study, readable, cached.cohort.variables))
        rows["view"].append({"view": seen and seen.view.value, "laterality": seen and seen.laterality})
    tables = {group: _table(group_rows) for group, group_rows in rows.items()}
    return {group: table for group, table in tables.items() if table.shape[1]}


def _file_facts(cached: CachedCohort, record: StudyRecord, study: Study) -> FileFacts | None:
    """Of the first image; None where the study has none, or its file can no longer be read."""
    root = cached.cohort.root
    usable = [file for file in record.images if file.path.relative_to(root).as_posix() not in cached.refused]
    if not study.images or not usable:
        return None
    try:
        return read_file_facts(usable[0].path)
    except InputError:
        return None


def _moment(record: StudyRecord, study: Study) -> datetime | None:
    if study.reference_time is not None:
        return record.zone.local(study.reference_time)
    try:
        # A year alone is no moment, though ISO 8601 would let "2020" pass for one in some versions.
        return datetime.fromisoformat(record.date) if record.date and len(record.date) > len("2020-01") else None
    except ValueError:
        return None


def _named(name: str, parts: Sequence[str]) -> Row:
    return {f"{name}_{number}": part or None for number, part in enumerate(parts)}


def _size(image: Image | None) -> Row:
    if image is None:
        return {}
    rows, columns = image.shape
    spacing = image.pixel_spacing
    return {
        "rows": float(rows),
        "columns": float(columns),
        "aspect": rows / columns,
        "has_spacing": float(spacing is not None),
        "spacing": math.nan if spacing is None else spacing[0],
    }


def _compression(image: Image | None, facts: FileFacts | None) -> Row:
    if image is None or facts is None:
        return {}
    bits = 8 * facts.size / math.prod(image.shape)
    return {"bits_per_pixel": round(bits, 1), "lossy": math.nan if facts.lossy is None else facts.lossy}


def _markers(image: Image | None, cached: CachedCohort) -> Row:
    """What the file says of burned-in annotation, and how much of each corner is as white as a marker is."""
    if image is None:
        return {}
    said = {None: math.nan, False: 0.0, True: 1.0}[image.burned_in]
    square = cached.cache.square(image.digest)
    box = Letterbox(*image.shape, len(square))
    (top, left), (height, width) = box.offset, box.inner
    inner = square[top : top + height, left : left + width]
    high, wide = max(1, round(height * _CORNER)), max(1, round(width * _CORNER))
    white: Row = {"burned_in": said}
    for vertical, horizontal in product((slice(high), slice(-high, None)), (slice(wide), slice(-wide, None))):
        white[f"corner_{len(white)}"] = round(float((inner[vertical, horizontal] >= _SATURATED).mean()), 3)
    return white


def _note_lengths(study: Study) -> Row:
    texts = [note.text for note in study.notes]
    return {
        "notes": float(len(texts)),
        "characters": float(sum(map(len, texts))),
        "words": float(sum(len(text.split()) for text in texts)),
    }


def _date(record: StudyRecord, moment: datetime | None) -> Row:
    stated = re.search(r"(?:19|20)\d\d", record.date or "")
    row: Row = {"year": float(stated.group()) if stated else math.nan}
    if moment is not None:
        row |= {"day": float(moment.toordinal()), "month": float(moment.month), "weekday": float(moment.weekday())}
        row |= {"hour": float(moment.hour), "year": row["year"] if stated else float(moment.year)}
    return row


def _filled(record: StudyRecord, study: Study, readable: Study, variables: VariableTable) -> Row:
    """Which fields of the record are filled; how many images and values there are."""
    measured = {o.variable for o in readable.observations if not o.implausible}
    kinds = {note.kind for note in readable.notes}
    return {
        "images": float(len(study.images)),
        "values": float(len(measured)),
        "age": float(record.patient.age is not None),
        "sex": float(record.patient.sex is not Sex.UNKNOWN),
        "date": float(record.date is not None),
        "source": float(record.source is not None),
        "reference_time": float(record.reference_time is not None),
        "acquired": float(any(image.acquired is not None for image in study.images)),
        "view": float(any(image.view is not ViewPosition.UNKNOWN for image in study.images)),
        "note_time": float(any(note.time is not None for note in readable.notes)),
        "value_time": float(any(o.time is not None for o in readable.observations)),
        **{f"note_{kind.value}": float(kind in kinds) for kind in NoteKind},
        **{f"value_{variable}": float(variable in measured) for variable in variables},
    }


def _table(rows: Sequence[Row]) -> pd.DataFrame:
    """Columns that differ between studies: numbers as they are, names as categories, the rare ones as one."""
    names = dict.fromkeys(name for row in rows for name in row)
    columns = {name: _column([row.get(name) for row in rows]) for name in names}
    return pd.DataFrame({name: column for name, column in columns.items() if len(column.unique()) > 1})


def _column(cells: Sequence[object]) -> pd.Series:
    if not any(isinstance(cell, str) for cell in cells):
        numbers: npt.NDArray[np.float64] = np.array([math.nan if c is None else c for c in cells], np.float64)
        return pd.Series(numbers)
    counts = Counter(str(cell) for cell in cells if cell)
    code = {name: number for number, (name, _) in enumerate(counts.most_common(_MOST_CATEGORIES))}
    known = [code.get(str(cell), _MOST_CATEGORIES) if cell else None for cell in cells]
    return pd.Series(pd.Categorical(known))
