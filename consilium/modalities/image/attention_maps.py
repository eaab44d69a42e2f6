"""Saliency of vision transformers from their attention. Maps as in `consilium.modalities.image.saliency_maps`.

No class token gathers the image here: its patches go on as tokens. Where the papers read the class token's row, the
rows of all patches are read: on average, or weighted by what each patch said in the end.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from consilium.explain.case import Case
from consilium.modalities.image.monai_networks import TransformerBlock
from consilium.modalities.image.saliency_maps import IMAGE, Maps, image_encoder, last_stage
from consilium.network.diagnosis_model import DiagnosisModel


def attention_layers(model: DiagnosisModel) -> list[nn.Module]:
    """The modules that attention weights [V, heads, T, T] pass through, first layer first; none but in a ViT."""
    if IMAGE not in model.encoders:
        return []
    blocks = [m for m in image_encoder(model).backbone.modules() if isinstance(m, TransformerBlock)]
    return [block.attn.drop_weights for block in blocks]


def attention_rollout(case: Case, positions: Sequence[int]) -> Maps:
    """Attention multiplied through the layers, the residual way counted as half (Abnar and Zuidema 2020, section 3).

    The same for every finding, and never negative: it shows where the encoder looked, not what for.
    """
    joint = None
    for layer in attention_layers(case.model):
        weights = case.traced[layer].detach().float().mean(dim=1)
        step = (weights + _identity(weights)) / 2
        joint = step if joint is None else step @ joint
    assert joint is not None
    return np.repeat(_maps(case, joint.mean(dim=1))[None], len(positions), axis=0)


def gradient_attention(case: Case, positions: Sequence[int]) -> Maps:
    """Attention weighted by its positive gradient, multiplied through the layers (Chefer et al. 2021, equations 5, 6).

    What each patch said in the end is the gradient × activation of the last map, with its sign; the attention's
    relevance says which patches it had that from.
    """
    found = []
    for position in positions:
        gradients = case.gradients(position)
        relevance = None
        for layer in attention_layers(case.model):
            weights = (case.traced[layer].detach() * gradients[layer]).clamp(min=0).float().mean(dim=1)
            if relevance is None:
                relevance = _identity(weights)
            relevance = relevance + weights @ relevance
        assert relevance is not None
        stage = last_stage(case.model)
        said = (case.traced[stage].detach() * gradients[stage]).sum(dim=1).flatten(1).float()
        found.append(_maps(case, torch.einsum("vt,vtp->vp", said, relevance)))
    return np.stack(found)


def _identity(weights: Tensor) -> Tensor:
    return torch.eye(weights.shape[-1], device=weights.device)


def _maps(case: Case, patches: Tensor) -> Maps:
    """Weights of patches [V, T] as maps [V, h, w]."""
    cells = image_encoder(case.model).cells
    return patches.reshape(len(patches), cells, cells).cpu().numpy().astype(np.float32)
