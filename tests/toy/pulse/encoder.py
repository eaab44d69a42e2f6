"""Windows of a pulse wave → tokens."""

from __future__ import annotations

import torch
from torch import nn

from consilium.modalities.part import MASK
from consilium.modalities.tokens import Encoder, Tokens
from pulse.preparation import WINDOWS


class PulseEncoder(Encoder):
    """The same two layers over every window."""

    def __init__(self, window: int, hidden: int, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(2 * window, hidden), nn.GELU(), nn.Linear(hidden, width))

    @classmethod
    def build(cls, section, preparation, fusion, *, pretrained):
        return cls(section.window, section.width, fusion.width)

    def forward(self, inputs):
        windows = inputs[WINDOWS]
        return Tokens(self.layers(torch.cat([windows, windows.abs()], dim=-1)), inputs[MASK])

    def traced(self, inputs):
        windows = inputs[WINDOWS].detach().requires_grad_()
        tokens = self.forward({**inputs, WINDOWS: windows})
        return tokens, windows if inputs[MASK].any() else None
