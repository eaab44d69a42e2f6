"""Shifts by name: how a phantom cohort departs from the one that a model learned from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from consilium.domain.errors import InputError
from consilium.formats.decimals import parse_decimal
from training.cohorts.phantom.record import Shift
from training.cohorts.phantom.renderers import DEFAULT_MODALITIES

_FLAGS = {"device": "unseen_device", "phrases": "held_out_phrases"}
_RATES = {
    "prevalence": "prevalence_odds",
    "missing-value": "missing_value",
    "missing-modality": "missing_modality",
}
_RULE = "must read device, phrases, prevalence:NAME=ODDS, missing-value:VARIABLE=RATE or missing-modality:NAME=RATE"

STANDARD: Mapping[str, Sequence[str]] = MappingProxyType(
    {
        "none": (),
        "prevalence": ("prevalence:pneumonia=3", "prevalence:heart_failure=3", "prevalence:pleural_effusion=3"),
        "device": ("device",),
        "missingness": tuple(f"missing-modality:{name}=0.4" for name in DEFAULT_MODALITIES),
        "phrases": ("phrases",),
    }
)
"""One shift of each kind; ``none`` is another cohort from home."""


def parse_shift(texts: Sequence[str]) -> Shift:
    """The shift that a command line asks for: ``["device", "prevalence:pneumonia=3"]``.

    Raises
    ------
    InputError
        For a text that names no shift. Whether a finding, variable or modality is known, and a rate in range, is
        checked when the cohort is written.
    """
    flags: dict[str, bool] = {}
    rates: dict[str, dict[str, float]] = {field: {} for field in _RATES.values()}
    for text in texts:
        kind, colon, rest = text.partition(":")
        if not colon and kind in _FLAGS:
            flags[_FLAGS[kind]] = True
            continue
        name, equals, number = rest.partition("=")
        if kind not in _RATES or not equals:
            raise InputError("shift", text, _RULE)
        rates[_RATES[kind]][name] = _number(text, number)
    chosen: dict[str, Any] = {**rates, **flags}
    return Shift(**chosen)


def _number(text: str, number: str) -> float:
    parsed = parse_decimal(number)
    if parsed is None or parsed.comma:
        raise InputError("shift", text, _RULE)
    return parsed.value
