"""What the page and the terminal call things, so that both say the same."""

from __future__ import annotations

from consilium.domain.diagnosis import ABSENT, PRESENT, Novelty

MODALITY_NAMES = {"image": "Image", "text": "Notes", "observations": "Values"}

_UNUSUAL = 0.1
"""Share of ordinary studies that are as strange, from which down a part is called unusual."""
_SETS = {
    frozenset({PRESENT}): "present",
    frozenset({ABSENT}): "absent",
    frozenset({ABSENT, PRESENT}): "cannot tell",
    frozenset[str](): "unlike either",
}
_ABBREVIATIONS = {"auroc": "AUROC", "nll": "NLL", "ece": "ECE", "delong": "DeLong"}
_UNITS = {
    "a": "years",
    "Cel": "°C",
    "mm[Hg]": "mmHg",
    "[pH]": "",
    "umol/L": "µmol/L",
    "ug/L": "µg/L",
    "10*9/L": "10⁹/L",
    "ng/mL{FEU}": "ng/mL FEU",
    "10*12/L": "10¹²/L",
    "1": "",
    "[IU]/L": "IU/L",
    "m[IU]/L": "mIU/L",
    "cm[H2O]": "cmH₂O",
    "mL/min/{1.73_m2}": "mL/min/1.73 m²",
    "mosm/kg": "mOsm/kg",
    "/[HPF]": "per field",
    "kg/m2": "kg/m²",
}
"""Units that UCUM writes otherwise than a laboratory's sheet does."""
_AUDITS = {
    "sound": None,
    "suspect": "The cohort behind this model is suspect: its figures may be too good to be true",
    "unusable": "The cohort behind this model is unusable: its answers mean nothing",
    "not audited": "The cohort behind this model was not audited: its figures may be too good to be true",
}


def set_in_words(prediction_set: tuple[str, ...]) -> str:
    """``present``, ``absent``, ``cannot tell`` (both remain) or ``unlike either`` (none does)."""
    return _SETS[frozenset(prediction_set)]


def part_in_words(part: str) -> str:
    """A part of a study that has a novelty of its own."""
    return "All together" if part == "fused" else MODALITY_NAMES[part]


def novelty_in_words(novelty: Novelty) -> str:
    """``ordinary``, ``unusual`` or ``unlike the training data``."""
    if novelty.novel:
        return "unlike the training data"
    return "unusual" if novelty.p_value < _UNUSUAL else "ordinary"


def audit_in_words(verdict: str) -> str | None:
    """What a verdict means for the reader; None where there is nothing to mind."""
    return _AUDITS[verdict]


def figure(value: float, sign: str = "") -> str:
    """Three significant digits without an exponent, as a laboratory's sheet has them: ``12300``, ``0.0123``."""
    return f"{float(f'{value:.3g}'):{sign}.12g}"


def measured(value: str, unit: str) -> str:
    """A value and its UCUM unit as a laboratory writes them: ``124 µmol/L``, ``71 years``."""
    return f"{value} {_UNITS.get(unit, unit)}".strip()


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
