"""ECGs as text: one column a lead, with the sampling rate in a comment or a column of times.

.. code-block:: text

    # rate: 500 Hz
    # unit: mV
    I,II,V1
    0.01,0.03,-0.02
"""

from __future__ import annotations

import re

import numpy as np

from consilium.domain.errors import InputError, UnsupportedMedia
from consilium.formats.limits import Limits
from consilium.modalities.ecg.files.bounds import check_rate, check_samples
from consilium.modalities.ecg.files.signals import MILLIVOLTS, Floats, Signals

_COMMENT = re.compile(r"#\s*(rate|unit)\s*[:=]\s*(\S+)(?:\s*(Hz))?\s*", re.IGNORECASE)
_TIME = re.compile(r"(?:time|t)(?:[_(\[]?(s|ms)[)\]]?)?", re.IGNORECASE)
_RULE = "must be text with a line of lead names and a line of numbers for each sample"
_UNEVEN = 0.01
"""Share of a step by which the times of samples may differ."""


def read_csv(data: bytes, limits: Limits) -> Signals:
    """Read a table of samples.

    Raises
    ------
    InputError
        No rate, rows of different lengths, what is no number.
    """
    try:
        lines = [line.strip() for line in data.decode("utf-8-sig").splitlines() if line.strip()]
    except UnicodeDecodeError:
        raise UnsupportedMedia("file", "unknown", "must be a zip of a WFDB record, a DICOM waveform or CSV") from None
    comments: dict[str, str] = {}
    for match in filter(None, map(_COMMENT.fullmatch, lines)):
        if comments.setdefault(match[1].lower(), match[2]) != match[2]:
            raise InputError(match[1].lower(), match[2][:20], "must be stated once")
    lines = [line for line in lines if not line.startswith("#")]
    if len(lines) < 2:
        raise InputError("file", f"{len(lines)} lines", _RULE)
    separator = max(",;\t", key=lines[0].count)
    names = [name.strip().strip('"') for name in lines[0].split(separator)]
    check_samples(len(names), len(lines) - 1, limits["ecg_samples"])
    values = np.array([_row(line, separator, len(names), number) for number, line in enumerate(lines[1:])]).T
    unit = MILLIVOLTS.get(comments.get("unit", "mV").lower())
    if unit is None:
        raise InputError("unit", comments["unit"][:20], "must be mV, uV or V")
    timed = [position for position, name in enumerate(names) if _unit_of_time(name) is not None]
    rate = _stated(comments["rate"]) if "rate" in comments else _of_times(names, values, timed)
    for position in timed:
        per_second, times = _unit_of_time(names[position]), values[position]
        if per_second and not abs((times[-1] - times[0]) * rate / per_second - len(times) + 1) <= _UNEVEN * len(times):
            raise InputError("rate", f"{rate:g} Hz", "must be that of the column of times")
    leads = [position for position in range(len(names)) if position not in timed]
    return Signals(
        names=[names[position] for position in leads],
        millivolts=values[leads] * unit,
        steps=None,
        rate=rate,
        source="csv",
    )


def _row(line: str, separator: str, width: int, number: int) -> list[float]:
    cells = line.split(separator)
    if len(cells) != width:
        raise InputError(f"row[{number}]", f"{len(cells)} cells", f"must have {width}, as the line of names has")
    try:
        return [float(cell) if cell.strip() else np.nan for cell in cells]
    except ValueError:
        raise InputError(f"row[{number}]", "a cell that is no number", _RULE) from None


def _unit_of_time(name: str) -> float | None:
    """How many there are in a second; 0 where the column's name has none, None where it is no column of times."""
    match = _TIME.fullmatch("".join(name.split()))
    return None if match is None else {"s": 1.0, "ms": 1000.0}.get((match[1] or "").lower(), 0.0)


def _stated(text: str) -> float:
    try:
        rate = float(text.lower().removesuffix("hz"))
    except ValueError:
        raise InputError("rate", text[:20], "must be a number of samples a second") from None
    check_rate(rate, "rate", text[:20])
    return rate


def _of_times(names: list[str], values: Floats, timed: list[int]) -> float:
    if len(timed) != 1:
        raise InputError("rate", None, "must be stated, as '# rate: 500 Hz' above the names or by one column time_s")
    per_second = _unit_of_time(names[timed[0]]) or 1.0
    steps = np.diff(values[timed[0]])
    step = float(np.median(steps)) if len(steps) else 0.0
    if not step > 0 or np.abs(steps - step).max() > _UNEVEN * step + 1e-6 * per_second:
        raise InputError("rate", "times that are not even", "must be times of equal steps")
    rate = per_second * len(steps) / float(values[timed[0], -1] - values[timed[0], 0])
    check_rate(rate, "rate", rate)
    return rate
