"""Windows of a pulse wave → tokens."""

from __future__ import annotations

import torch
from torch import nn

from consilium.modalities.connectors import build_connector
from consilium.modalities.part import MASK
from consilium.modalities.tokens import DenseEncoder, Tokens, scatter_rows
from pulse.preparation import WINDOWS


class PulseEncoder(DenseEncoder):
    """The same layer over every window, and a connector."""

    def __init__(self, section, fusion, *, pretrained=True):
        super().__init__()
        self.width = fusion.width
        self.dense_axes = ((-1, -1, section.window),)
        self.layers = nn.Sequential(nn.Linear(2 * section.window, section.width), nn.GELU())
        self.connector = build_connector(section.connector, section.width, fusion, modality="pulse")
        self.adapt(section, modality="pulse", pretrained=pretrained)

    @classmethod
    def build(cls, section, preparation, fusion, *, pretrained):
        return cls(section, fusion, pretrained=pretrained)

    @property
    def body(self):
        return self.layers

    @property
    def reduction(self):
        return self.connector.reduction

    def rows(self, inputs):
        return inputs[MASK].any(dim=1, keepdim=True)

    def dense_inputs(self, inputs):
        return (inputs[WINDOWS][inputs[MASK].any(dim=1)],)

    def dense_examples(self, length):
        return (torch.zeros(length, length, self.dense_axes[0][2]),)

    def dense(self, *tensors):
        (windows,) = tensors
        return self.connector.reduce(self.layers(torch.cat([windows, windows.abs()], dim=-1)))

    def tokens(self, features, inputs):
        mask = inputs[MASK]
        there = mask.any(dim=1)
        values = scatter_rows(self.connector(features, mask[there]), there)
        return Tokens(values, scatter_rows(self.connector.token_mask(mask[there]), there))

    def traced(self, inputs):
        if not inputs[MASK].any():
            return self.forward(inputs), None
        windows = inputs[WINDOWS].detach().requires_grad_()
        return self.forward({**inputs, WINDOWS: windows}), windows
