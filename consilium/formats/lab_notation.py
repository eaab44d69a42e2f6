"""Figures and units as a laboratory's sheet writes them."""

from __future__ import annotations

import json
from importlib.resources import files

_UNITS: dict[str, str] = json.loads(files(__package__).joinpath("lab_units.json").read_text(encoding="utf-8"))
"""Units that UCUM writes otherwise than a laboratory's sheet does; the reading page is built with the same file."""


def figure(value: float, sign: str = "") -> str:
    """Three significant digits without an exponent, as a laboratory's sheet has them: ``12300``, ``0.0123``."""
    return f"{float(f'{value:.3g}'):{sign}.12g}"


def measured(value: str, unit: str) -> str:
    """A value and its UCUM unit as a laboratory writes them: ``124 µmol/L``, ``71 years``."""
    return f"{value} {_UNITS.get(unit, unit)}".strip()
