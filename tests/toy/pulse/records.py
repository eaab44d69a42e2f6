"""Pulse waves, read from JSON or from text files."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from consilium.domain.errors import InputError, TooLarge
from consilium.domain.wire import Wire
from consilium.formats.limits import Limits
from consilium.formats.sent_records import Moment, checked_records
from consilium.formats.times import read_time
from consilium.modalities.modality import ReadingContext
from consilium.modalities.registry import default_context
from pulse.wave import Pulse

_SHORTEST = 4


class PulseRecord(Wire):
    """A pulse wave: samples at a fixed rate."""

    samples: tuple[float, ...]
    time: Moment | None = None


def read_pulses(
    raw: Sequence[PulseRecord | Mapping[str, object]], *, field: str = "pulses", context: ReadingContext | None = None
) -> tuple[tuple[Pulse, ...], tuple[str, ...]]:
    context = context or default_context()
    pulses, warnings = [], []
    for i, record in enumerate(checked_records(PulseRecord, raw, field, context.limits["pulses"])):
        time, doubts = read_time(record.time, f"{field}[{i}].time", context.zone)
        pulses.append(_checked(record.samples, f"{field}[{i}].samples", context.limits, time))
        warnings += doubts
    return tuple(pulses), tuple(warnings)


def read_pulse_file(data: bytes, *, field: str = "pulse_files[0]", limits: Limits) -> Pulse:
    try:
        samples = tuple(float(line) for line in data.decode("ascii").split())
    except ValueError:
        raise InputError(field, "something else", "must be one number a line") from None
    return _checked(samples, field, limits)


def read_row(row: Mapping[str, str], *, root: Path, context: ReadingContext) -> tuple[tuple[Pulse, ...], list[str]]:
    if not row["pulse_file"]:
        return (), []
    try:
        data = (root / row["pulse_file"]).read_bytes()
    except OSError as error:
        raise InputError(
            "pulse_file", row["pulse_file"], f"must be a file that can be read ({error.strerror})"
        ) from None
    return (read_pulse_file(data, field="pulse_file", limits=context.limits),), []


def _checked(samples: tuple[float, ...], field: str, limits: Limits, time=None) -> Pulse:
    if len(samples) > limits["pulse_samples"]:
        raise TooLarge(field, f"{len(samples)} samples", f"must be at most {limits['pulse_samples']}")
    if len(samples) < _SHORTEST or not all(map(math.isfinite, samples)):
        raise InputError(field, f"{len(samples)} samples", f"must be at least {_SHORTEST} finite numbers")
    return Pulse(samples, time)
