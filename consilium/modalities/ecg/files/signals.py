"""Signals: what a file says, before it is known whether that can be an ECG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

LEADS: tuple[str, ...] = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
"""The standard leads, in the order of every array."""
MILLIVOLTS: Mapping[str, float] = {"mv": 1.0, "uv": 1e-3, "µv": 1e-3, "μv": 1e-3, "v": 1e3, "nv": 1e-6}
"""What one of a unit is, by the unit in small letters."""

_KNOWN = {lead.upper(): lead for lead in LEADS}
_KNOWN |= {"DI": "I", "DII": "II", "DIII": "III", "LEADI": "I", "LEADII": "II", "LEADIII": "III", "MLII": "II"}


@dataclass(frozen=True, slots=True, eq=False)
class Signals:
    """What a file holds.

    Attributes
    ----------
    names : sequence of str
        Of the leads, as the file writes them.
    millivolts : float64 [L, T]
        By the gains that the file states; NaN where a sample is missing.
    steps : float64 [L, T] or None
        The integers as they were stored; NaN where missing. None: the file has none.
    rate : float
        Samples a second.
    time : datetime or None
        When it begins.
    source : str
        ``wfdb``, ``dicom`` or ``csv``.
    warnings : tuple of str
    gains_stated : tuple of bool
        Of each lead, whether the file states its gain; empty: of all.
    known : mapping
        What else the file says, by attribute of `consilium.modalities.ecg.ecg_record.Ecg`.
    """

    names: Sequence[str]
    millivolts: Floats
    steps: Floats | None
    rate: float
    source: str
    time: datetime | None = None
    warnings: tuple[str, ...] = ()
    gains_stated: tuple[bool, ...] = ()
    known: Mapping[str, Any] = field(default_factory=dict)


def standard_lead(name: str) -> tuple[str, float] | None:
    """The standard lead that `name` names, and its sign (``-aVR``); None of any other."""
    plain = "".join(name.upper().replace("MDC_ECG_LEAD_", "").replace("LEAD", "").split()).replace("_", "")
    sign = -1.0 if plain.startswith("-") else 1.0
    lead = _KNOWN.get(plain.lstrip("-"))
    return None if lead is None else (lead, sign)
