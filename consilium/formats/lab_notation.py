"""Figures and units as a laboratory's sheet writes them."""

from __future__ import annotations

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


def figure(value: float, sign: str = "") -> str:
    """Three significant digits without an exponent, as a laboratory's sheet has them: ``12300``, ``0.0123``."""
    return f"{float(f'{value:.3g}'):{sign}.12g}"


def measured(value: str, unit: str) -> str:
    """A value and its UCUM unit as a laboratory writes them: ``124 µmol/L``, ``71 years``."""
    return f"{value} {_UNITS.get(unit, unit)}".strip()
