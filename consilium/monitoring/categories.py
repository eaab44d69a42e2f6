"""What answers are grouped by when they are watched; nothing of it identifies a patient."""

from __future__ import annotations

from consilium.domain.study import Study

UNKNOWN = "unknown"
PRESENT = "present:"
"""Begins the category of whether a study has a modality: ``yes`` or ``no``."""
_BANDS = ((0, 18), (18, 40), (40, 65), (65, 80))
_LAST = 80


def age_band(age: float | None) -> str:
    """``18 to 39``, ``80 and older``, or `UNKNOWN`."""
    if age is None:
        return UNKNOWN
    if age >= _LAST:
        return f"{_LAST} and older"
    low, high = next(band for band in _BANDS if band[0] <= age < band[1])
    return f"{low} to {high - 1}"


def study_categories(study: Study) -> dict[str, str]:
    """Sex, age band, and what the records of each modality are grouped by: ``unit:crp`` → ``mg/dL``.

    Of records that differ, each of their words once, in alphabetical order: ``mg/L, mg/dL``.
    """
    found = {"sex": study.patient.sex.name.lower(), "age_band": age_band(study.patient.age)}
    words: dict[str, set[str]] = {}
    for record in study.records:
        for category, word in record.categories.items():
            words.setdefault(category, set()).add(word)
    return found | {category: ", ".join(sorted(several)) for category, several in words.items()}
