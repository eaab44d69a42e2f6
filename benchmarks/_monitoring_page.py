"""The page of `benchmarks/monitoring.py`, from the lines that it has measured."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from _monitored import HOME
from scipy.stats import binomtest

from consilium.monitoring.reference import MonitoringReference

A_DAY = 100
QUIET_DAYS = 60


def summary(reference: MonitoringReference, lines: Sequence[Mapping[str, Any]], given: argparse.Namespace) -> str:
    """The page: what was measured, with its command."""
    years = [line for line in lines if line["kind"] == "quiet year" and line["days"] == given.year_days]
    shifts = [line for line in lines if line["kind"] == "shift" and line["days"] == given.shift_days]
    alarmed = [line for line in years if line["alarms"]]
    low, high = _interval(len(alarmed), len(years))
    which = Counter(name for line in alarmed for name in line["alarms"])
    facts = {
        "years": len(years),
        "days": given.year_days,
        "a_day": A_DAY,
        "tests": years[0]["tests"] if years else 0,
        "alarmed": len(alarmed),
        "share": len(alarmed) / max(len(years), 1),
        "low": low,
        "high": high,
        "which": ", ".join(f"{name} ({count})" for name, count in which.most_common()) or "none",
        "fixed": np.mean([line["fixed_alarms"] for line in years]) if years else np.nan,
        "studies": given.studies,
        "answered": given.answered,
        "held_out": reference.studies,
        "noise": reference.noise,
        "weight": reference.weight,
        "quiet": QUIET_DAYS,
        "shift_days": given.shift_days,
    }
    return _PAGE.read_text(encoding="utf-8").format(**facts, table="\n".join(_rows(shifts)))


def _rows(shifts: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    columns = ("any test", *_FAMILIES)
    yield f"| shift | share | found | before it | {' | '.join(columns)} |"
    yield "| --- " * (4 + len(columns)) + "|"
    for shift, share in dict.fromkeys((line["shift"], line["share"]) for line in shifts):
        found = [line["found"] for line in shifts if (line["shift"], line["share"]) == (shift, share)]
        after = [{name: day for name, day in one.items() if day > 0} for one in found]
        cells = [_days([min(one.values(), default=np.inf) for one in after])]
        for kinds in _FAMILIES.values():
            own = [[day for name, day in one.items() if name.startswith(kinds)] for one in after]
            cells.append(_days([min(days, default=np.inf) for days in own]))
        early = sum(any(day <= 0 for day in one.values()) for one in found)
        name = _SHIFT_NAMES.get(shift, shift)
        yield f"| {name} | {share:g} | {sum(map(bool, after))} of {len(found)} | {early} | {' | '.join(cells)} |"


def _days(days: Sequence[float]) -> str:
    middle = float(np.median(days)) if days else np.inf
    return f"{middle:.1f}" if np.isfinite(middle) else "–"


def _interval(found: int, of: int) -> tuple[float, float]:
    """Clopper and Pearson's, 95 %."""
    if not of:
        return 0.0, 1.0
    bounds = binomtest(found, of).proportion_ci()
    return float(bounds.low), float(bounds.high)


_SHIFT_NAMES = {
    HOME: "none",
    "prevalence": "prevalence: odds of three findings x 3",
    "device": "device: every image from a new scanner",
    "missingness": "missing modality: each at a rate of .4",
    "phrases": "note style: phrases that no training note had",
    "missing value": "missing values: each at a rate of .5",
    "exposure": "exposure: another display curve and more noise",
    "units": "units: values taken for the other usual unit",
}
_FAMILIES = {
    "features": ("features",),
    "typicality": ("typicality",),
    "probability, referral": ("probability", "referral"),
    "presence, categories": ("presence", "category"),
    "held-out studies": ("held-out",),
    "outcomes": ("calibration",),
}
_PAGE = Path(__file__).parent / "_monitoring.md"
