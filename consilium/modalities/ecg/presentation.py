"""Which parts of an ECG are evidence: how that is sent, and drawn on ECG paper."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from consilium.domain.study import Study
from consilium.domain.wire import Wire, WireValue
from consilium.modalities.ecg.paper import drawn
from consilium.modalities.presentation import Presentation


@dataclass(frozen=True, slots=True)
class EcgEvidence(WireValue):
    """How much evidence the windows of one recording and its rhythm are, in log-odds."""

    ecg: int
    """Position among the recordings of the study that the model read."""
    start: float
    """When the first window begins, in seconds of the recording."""
    step: float
    """Length of a window, seconds."""
    leads: Mapping[str, tuple[float, ...]]
    """The weight of each window, one after the other, of each lead that there is."""
    rhythm: float
    """The weight of the rhythm: how far apart and how regular the beats are."""


class EcgInformation(Wire):
    """How the model reads ECGs."""

    rate: int
    """Samples a second; recordings are resampled."""
    seconds: int
    """The middle of a longer recording is read."""
    wrong_gains: Literal["scaled", "microvolts"]
    """What becomes of a file whose gains are wrong: scaled to a common size and referred, or its integers read as
    microvolts."""


def _cards(study: Study, findings: Sequence[tuple[EcgEvidence, ...]]) -> list[Mapping[str, Any] | None]:
    records = study.parts["ecg"]
    if not records:
        return [None] * len(findings)
    strongest = max(
        (abs(x) for found in findings for one in found for row in one.leads.values() for x in row), default=0
    )
    return [
        {"drawings": [drawn(records[one.ecg], one, strongest) for one in found if one.ecg < len(records)]}
        if found
        else None
        for found in findings
    ]


def _rows(weights: Sequence[EcgEvidence]) -> list[tuple[str, float]]:
    found = []
    for one in weights:
        which = f"ECG {one.ecg + 1} " if len(weights) > 1 else ""
        found.append((f"{which}rhythm", one.rhythm))
        found += [(f"{which}lead {lead}", sum(row)) for lead, row in one.leads.items()]
    return found


PRESENTATION = Presentation(
    wire=EcgEvidence,
    information=EcgInformation,
    template="consilium.modalities.ecg:explanation.html.j2",
    cards=_cards,
    unit="leads",
    rows=_rows,
)
