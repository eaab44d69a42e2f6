"""Channels: what a file says, before it is known whether that can be a sound of a body."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt

from consilium.domain.errors import InputError, TooLarge, UnsupportedMedia

LEAST_RATE, MOST_RATE = 500.0, 192_000.0
_MOST_CHANNELS = 2


@dataclass(frozen=True, slots=True, eq=False)
class Channels:
    """What a file holds.

    Attributes
    ----------
    samples : float32 [C, T]
        Full scale is 1.
    rate : float
        Samples a second.
    source : str
        ``wav``, ``flac`` or ``dicom``.
    known : mapping
        What else the file says, by attribute of `consilium.modalities.audio.sound_record.Sound`.
    """

    samples: npt.NDArray[np.float32]
    rate: float
    source: str
    time: datetime | None = None
    warnings: tuple[str, ...] = ()
    known: Mapping[str, Any] = field(default_factory=dict)


def check_shape(channels: int, samples: int, rate: float, most: int, field: str = "rate") -> None:
    """Refuse what no sound of a body is; looked at before any of what is declared is read.

    Raises
    ------
    InputError
        No channel, no sample, a rate out of bounds.
    UnsupportedMedia
        More than two channels.
    TooLarge
        More than `most` samples in all.
    """
    if channels < 1:
        raise InputError("channels", channels, "must be one or two")
    if channels > _MOST_CHANNELS:
        raise UnsupportedMedia("channels", str(channels), "must be one or two")
    if not LEAST_RATE <= rate <= MOST_RATE:
        raise InputError(field, rate, f"must lie between {LEAST_RATE:g} and {MOST_RATE:g} Hz")
    if samples < 1:
        raise InputError("samples", samples, "must be at least one")
    if channels * samples > most:
        raise TooLarge("samples", f"{channels} channels of {samples} samples", f"must be at most {most} together")
