"""How the weights of a wave's windows are shown and sent."""

from __future__ import annotations

from dataclasses import dataclass

from consilium.domain.wire import WireValue
from consilium.modalities.presentation import Presentation
from waves import LETTERS


@dataclass(frozen=True, slots=True)
class WindowWeight(WireValue):
    """How much evidence one window is, in log-odds."""

    window: int
    weight: float


for letter in LETTERS:
    globals()[f"PRESENTATION_{letter}"] = Presentation(
        wire=WindowWeight,
        template="waves:explanation.html.j2",
        cards=lambda study, findings, name=f"wave_{letter}": [
            {"windows": weights} if study.parts[name] else None for weights in findings
        ],
        unit="windows",
        rows=lambda weights: [(f"window {weight.window}", weight.weight) for weight in weights],
    )
