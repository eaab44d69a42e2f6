"""An ECG on ECG paper: 25 mm a second, 10 mm a millivolt, a row for each lead, evidence as bands behind the trace."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from consilium.modalities.ecg.ecg_record import UNKNOWN_VOLTAGES, Ecg
from consilium.modalities.ecg.files.signals import LEADS

if TYPE_CHECKING:
    from consilium.modalities.ecg.presentation import EcgEvidence

MM_SECOND, MM_MILLIVOLT = 25.0, 10.0
_ROW_MM, _LEFT_MM, _HALF_MM, _EDGE_MM = 20.0, 12.0, 9.0, 10.0
_POINTS_SECOND = 125.0
_FAINT = 0.04
"""Share of the strongest window below which a window has no band."""


def drawn(record: Ecg, evidence: EcgEvidence, strongest: float) -> Mapping[str, Any]:
    """What the template draws of `record`, in millimetres of paper.

    Parameters
    ----------
    strongest : float
        The largest weight of a window of all findings: that of the darkest band.
    """
    windows = max((len(row) for row in evidence.leads.values()), default=0)
    seconds = min(windows * evidence.step, record.seconds - evidence.start)
    shown = [(LEADS.index(lead), lead, row) for lead, row in evidence.leads.items()]
    voltages = not set(UNKNOWN_VOLTAGES) & set(record.faults)
    scale = 1.0 if voltages else _scale(record)
    rows = []
    for number, (position, lead, weights) in enumerate(shown):
        middle = _EDGE_MM + _ROW_MM * (number + 0.5)
        rows.append(
            {
                "lead": lead,
                "derived": lead in record.derived,
                "middle": middle,
                "path": _path(record, position, evidence.start, seconds, middle, scale),
                "bands": list(_bands(weights, evidence.step, seconds, middle, strongest)),
            }
        )
    return {
        "width": _LEFT_MM + MM_SECOND * seconds,
        "height": _ROW_MM * max(1, len(rows)) + 2 * _EDGE_MM,
        "left": _LEFT_MM,
        "rows": rows,
        "start": evidence.start,
        "seconds": seconds,
        "rhythm": evidence.rhythm,
        "voltages": voltages,
        "number": evidence.ecg + 1,
    }


def _bands(
    weights: tuple[float, ...], step: float, seconds: float, middle: float, strongest: float
) -> Iterator[Mapping[str, Any]]:
    """Above the trace what speaks for the finding, below it what speaks against it."""
    for number, weight in enumerate(weights):
        share = abs(weight) / strongest if strongest > 0 else 0.0
        end = min((number + 1) * step, seconds)
        if share >= _FAINT and number * step < end:
            yield {
                "x": round(_LEFT_MM + MM_SECOND * number * step, 2),
                "y": round(middle - (_HALF_MM if weight > 0 else 0.0), 2),
                "width": round(MM_SECOND * (end - number * step), 2),
                "height": _HALF_MM,
                "for": weight > 0,
                "opacity": round(0.75 * share, 2),
            }


def _scale(record: Ecg) -> float:
    """What brings all but the highest deflections to a millivolt's height, where voltages are not known."""
    there = record.samples[np.isfinite(record.samples).any(axis=1)].astype(np.float64)
    size = float(np.nanpercentile(np.abs(there - np.nanmedian(there, axis=1, keepdims=True)), 98))
    return 1 / size if size > 0 else 1.0


def _path(record: Ecg, lead: int, start: float, seconds: float, middle: float, scale: float) -> str:
    """The trace as an SVG path, level at the lead's median; a tall wave reaches into the rows beside, as on paper."""
    first, last = round(start * record.rate), round((start + seconds) * record.rate)
    trace: npt.NDArray[np.float64] = record.samples[lead, first:last].astype(np.float64)
    known = np.flatnonzero(np.isfinite(trace))
    if len(known) < 2:
        return ""
    times = np.arange(known[0], known[-1], max(1.0, record.rate / _POINTS_SECOND))
    heights = np.interp(times, known, trace[known]) - np.median(trace[known])
    across = _LEFT_MM + MM_SECOND * times / record.rate
    up = middle - MM_MILLIVOLT * scale * heights
    return "M" + "L".join(f"{x:.2f} {y:.2f}" for x, y in zip(across, up, strict=True))
