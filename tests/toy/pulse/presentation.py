"""How the weights of a pulse wave's windows are shown and sent."""

from __future__ import annotations

from dataclasses import dataclass

from consilium.domain.wire import WireValue
from consilium.modalities.presentation import Presentation


@dataclass(frozen=True, slots=True)
class WindowWeight(WireValue):
    """How much evidence one window of the waves is, in log-odds."""

    window: int
    """Position among the windows of all waves of the study."""
    weight: float


def _cards(study, findings):
    return [{"windows": weights} if study.parts.get("pulse") else None for weights in findings]


def _rows(weights):
    return [(f"window {weight.window}", weight.weight) for weight in weights]


PRESENTATION = Presentation(
    wire=WindowWeight, template="pulse:explanation.html.j2", cards=_cards, unit="windows", rows=_rows
)
