"""Windows of a wave → tokens."""

from __future__ import annotations

import torch
from torch import nn

from consilium.modalities.part import MASK
from consilium.modalities.tokens import Encoder, Tokens
from waves.preparation import WINDOWS


class WaveEncoder(Encoder):
    """The same two layers over every window."""

    def __init__(self, window: int, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(2 * window, 16), nn.GELU(), nn.Linear(16, width))

    @classmethod
    def build(cls, section, preparation, fusion, *, pretrained):
        return cls(section.window, fusion.width)

    def forward(self, inputs):
        windows = inputs[WINDOWS]
        return Tokens(self.layers(torch.cat([windows, windows.abs()], dim=-1)), inputs[MASK])

    def traced(self, inputs):
        windows = inputs[WINDOWS].detach().requires_grad_()
        return self.forward({**inputs, WINDOWS: windows}), windows if inputs[MASK].any() else None
