"""Saliency of transformers from their attention. Maps as in `consilium.modalities.image.saliency_maps`.

The patches go on as tokens, and class and register tokens do not: where the papers read the class token's row, the rows
of all patches are read, on average, or weighted by their part in the answer.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from consilium.explain.case import Case
from consilium.modalities.image.backbones.attention import spread
from consilium.modalities.image.backbones.backbone import as_map
from consilium.modalities.image.saliency_maps import (
    IMAGE,
    Maps,
    image_encoder,
    last_stage,
    stage_gradient,
    stage_map,
)
from consilium.network.diagnosis_model import DiagnosisModel


def attention_layers(model: DiagnosisModel) -> list[nn.Module]:
    """The modules that attention weights pass through, first layer first; none but in a transformer."""
    if IMAGE not in model.encoders:
        return []
    return [layer.weights for layer in image_encoder(model).backbone.attention_layers()]


def attention_rollout(case: Case, positions: Sequence[int]) -> Maps:
    """Attention multiplied through the layers, the residual way counted as half (Abnar and Zuidema 2020, section 3).

    The same for every finding, and never negative: it shows where the encoder looked, not what for.
    """
    weights = [case.traced[layer].detach().float().mean(dim=1) for layer in attention_layers(case.model)]
    patches = stage_map(case, last_stage(case.model)).flatten(2)[:, 0]
    joint = _through(case, weights, torch.full_like(patches.float(), 1 / patches.shape[1]), own=0.5, read=0.5)
    return np.repeat(joint[None], len(positions), axis=0)


def gradient_attention(case: Case, positions: Sequence[int]) -> Maps:
    """Attention weighted by its positive gradient, multiplied through the layers (Chefer et al. 2021, equations 5, 6).

    A patch's part in the answer is the gradient × activation of the last map, with its sign; the attention's relevance
    says which patches it had that from.
    """
    found, last = [], last_stage(case.model)
    for position in positions:
        gradients = case.gradients(position)
        weights = [
            (case.traced[layer].detach() * gradients[layer]).clamp(min=0).float().mean(dim=1)
            for layer in attention_layers(case.model)
        ]
        part = (stage_map(case, last) * stage_gradient(case, last, position)).sum(dim=1).flatten(1).float()
        found.append(_through(case, weights, part, own=1.0, read=1.0))
    return np.stack(found)


def _through(case: Case, weights: Sequence[Tensor], patches: Tensor, own: float, read: float) -> Maps:
    """Relevance of the last map's patches [V, T] taken back through all layers, as maps [V, h, w] of the first's.

    Each layer leaves the share `own` where it is and moves the share `read` to the tokens that were read.
    """
    relevance = patches
    for layer, attention in reversed(
        list(zip(image_encoder(case.model).backbone.attention_layers(), weights, strict=True))
    ):
        tokens = layer.tokens(attention, len(patches))
        if tokens < 2 * relevance.shape[1]:  # class and register tokens come before the patches
            relevance = F.pad(relevance, (tokens - relevance.shape[1], 0))
        relevance = spread(relevance, tokens)
        relevance = own * relevance + read * layer.pulled(attention, relevance)
    return as_map(relevance[..., None])[:, 0].cpu().numpy().astype(np.float32)
