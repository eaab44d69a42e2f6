"""Which parts of a sound are evidence: how that is sent, drawn over its spectrogram, and played."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from consilium.domain.study import Study
from consilium.domain.wire import Wire, WireValue
from consilium.modalities.audio.drawing import drawn
from consilium.modalities.presentation import Presentation


@dataclass(frozen=True, slots=True)
class SoundEvidence(WireValue):
    """How much evidence the times and frequencies of one sound and its cycle are, in log-odds."""

    sound: int
    """Position among the sounds of the study that the model read."""
    start: float
    """When the first window begins, in seconds of the sound."""
    step: float
    """Length of a window, seconds."""
    hertz: tuple[float, ...]
    """The frequencies between which the rows of `bands` lie, from low to high: one more than there are rows."""
    bands: tuple[tuple[float, ...], ...]
    """The weight of each window, one after the other, of each band of frequencies."""
    cycle: float
    """The weight of what repeats: how fast and how regularly."""


class AudioInformation(Wire):
    """How the model reads sounds."""

    rate: int
    """Samples a second; sounds are resampled."""
    seconds: int
    """The middle of a longer sound is read."""
    low_hz: float
    high_hz: float
    """The frequencies that are read."""


def _cards(study: Study, findings: Sequence[tuple[SoundEvidence, ...]]) -> list[Mapping[str, Any] | None]:
    records = study.parts["audio"]
    if not records:
        return [None] * len(findings)
    strongest = max((abs(x) for found in findings for one in found for row in one.bands for x in row), default=0)
    return [
        {"drawings": [drawn(records[one.sound], one, strongest) for one in found if one.sound < len(records)]}
        if found
        else None
        for found in findings
    ]


def _rows(weights: Sequence[SoundEvidence]) -> list[tuple[str, float]]:
    found = []
    for one in weights:
        which = f"sound {one.sound + 1} " if len(weights) > 1 else ""
        found.append((f"{which}cycle", one.cycle))
        edges = zip(one.hertz, one.hertz[1:], one.bands, strict=False)
        found += [(f"{which}{low:.0f} to {high:.0f} Hz", sum(row)) for low, high, row in edges]
    return found


PRESENTATION = Presentation(
    wire=SoundEvidence,
    information=AudioInformation,
    template="consilium.modalities.audio:explanation.html.j2",
    cards=_cards,
    unit="sounds",
    rows=_rows,
)
