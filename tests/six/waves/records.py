"""Waves, read from JSON, from files of little-endian float32, and from rows of a cohort, which name such files."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np

from consilium.domain.errors import InputError
from consilium.domain.study import Record, RecordFile
from consilium.domain.wire import Wire
from consilium.formats.sent_records import checked_records
from waves import LETTERS


class WaveRecord(Wire):
    """A wave as numbers."""

    samples: tuple[float, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Wave(Record):
    """A wave of any length, float32 [T]."""

    samples: Any
    digest: str = ""

    guessable: ClassVar[bool] = False


def _wave(kind, samples, field) -> Wave:
    samples = np.asarray(samples, np.float32)
    if len(samples) < 4 or not np.isfinite(samples).all():
        raise InputError(field, f"{len(samples)} samples", "must be at least 4 finite numbers")
    return kind(samples, hashlib.sha256(samples.tobytes()).hexdigest())


def _read_waves(kind, raw, *, field, context):
    records = checked_records(WaveRecord, raw, field, context.limits[kind.field])
    return tuple(_wave(kind, one.samples, f"{field}[{i}].samples") for i, one in enumerate(records)), ()


def _read_file(kind, data, *, field, limits):
    return _wave(kind, np.frombuffer(data[: len(data) // 4 * 4], "<f4"), field)


def _read_row(column, row, *, root, context):
    return (RecordFile(f"{column}_files", root / row[column]),) if row[column] else (), ()


for letter in LETTERS:
    made = type(f"Wave_{letter}", (Wave,), {"field": f"waves_{letter}", "__slots__": (), "__module__": __name__})
    globals()[f"Wave_{letter}"] = made
    globals()[f"read_waves_{letter}"] = partial(_read_waves, made)
    globals()[f"read_wave_file_{letter}"] = partial(_read_file, made)
    globals()[f"read_row_{letter}"] = partial(_read_row, f"wave_{letter}")
