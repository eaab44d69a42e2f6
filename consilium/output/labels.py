"""What the page and the terminal call things, so that both say the same."""

from __future__ import annotations

from typing import NamedTuple

from consilium.domain.diagnosis import (
    ABSENT,
    PRESENT,
    Diagnosis,
    GradeResult,
    OutOfDistributionScore,
    SurvivalResult,
)
from consilium.modalities.registry import find_modality

_UNUSUAL = 0.1
"""P-value from which down a part is called unusual."""
_SETS = {
    frozenset({PRESENT}): "present",
    frozenset({ABSENT}): "absent",
    frozenset({ABSENT, PRESENT}): "undetermined",
    frozenset[str](): "unlike either",
}
_ABBREVIATIONS = {"auroc": "AUROC", "nll": "NLL", "ece": "ECE", "delong": "DeLong"}
_AUDITS = {
    "sound": None,
    "suspect": "The cohort behind this model is suspect: its figures may be too good to be true",
    "unusable": "The cohort behind this model is unusable: its answers mean nothing",
    "not audited": "The cohort behind this model was not audited: its figures may be too good to be true",
}


def set_in_words(prediction_set: tuple[str, ...]) -> str:
    """``present``, ``absent``, ``undetermined`` (both remain) or ``unlike either`` (none does)."""
    return _SETS[frozenset(prediction_set)]


def display_name(modality: str) -> str:
    """A modality as readers know it."""
    return find_modality(modality).display


def part_in_words(part: str) -> str:
    """A part of a study that is compared with the training data."""
    return "All together" if part == "fused" else display_name(part)


def typicality_in_words(score: OutOfDistributionScore) -> str:
    """``typical``, ``unusual`` or ``out of distribution``."""
    if score.out_of_distribution:
        return "out of distribution"
    return "unusual" if score.p_value < _UNUSUAL else "typical"


def audit_in_words(verdict: str) -> str | None:
    """What a verdict means for the reader; None where there is nothing to say."""
    return _AUDITS[verdict]


class TargetInWords(NamedTuple):
    """A target beside the findings as the page and the terminal show it: `bars` are probabilities by name."""

    display: str
    answer: str
    detail: str
    bars: tuple[tuple[str, float], ...]


def targets_in_words(diagnosis: Diagnosis) -> list[TargetInWords]:
    """The grades, then the times to an event."""
    return [_grade_in_words(one) for one in diagnosis.grades] + [_outlook_in_words(one) for one in diagnosis.survival]


def _grade_in_words(result: GradeResult) -> TargetInWords:
    bars = tuple((one.grade, one.probability) for one in result.probabilities)
    mean = f"mean {result.expected:.1f} on a scale of 0 to {len(bars) - 1}"
    return TargetInWords(result.display, result.grade, mean, bars)


def _outlook_in_words(result: SurvivalResult) -> TargetInWords:
    bars = tuple((f"{one.time:g} {result.unit}", one.probability) for one in result.without_event)
    name, last = bars[-1]
    return TargetInWords(result.display, f"{percent(last)} without", f"until {name}", bars)


def percent(probability: float) -> str:
    """In whole percent, in tenths near 0 and 1; never 0 or 100 where it is not."""
    if 0 < probability < 0.001:
        return "< 0.1 %"
    if 0.999 < probability < 1:
        return "> 99.9 %"
    near_an_end = probability < 0.01 or probability > 0.99
    return f"{100 * probability:.1f} %" if near_an_end and 0 < probability < 1 else f"{100 * probability:.0f} %"


def share(p_value: float) -> str:
    """A share that may be small, in percent with two digits at most."""
    return f"{100 * p_value:.2g} %" if p_value < 0.1 else f"{100 * p_value:.0f} %"


def column_head(name: str) -> str:
    """A table's column as its head says it: ``auroc_difference`` is "AUROC difference"."""
    return " ".join(_ABBREVIATIONS.get(word, word) for word in name.split("_"))
