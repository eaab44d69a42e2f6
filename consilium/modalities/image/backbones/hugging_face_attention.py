"""The attention of Hugging Face models, whose weights can be watched.

`transformers` asks a register for the function that its layers attend by. Ours is torch's own fused one, until somebody
watches the `weights_tap` of a layer: then the weights are computed, and pass through it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

ATTENTION = "consilium_watched"
_TAP = "weights_tap"

_Records = list[tuple[nn.Module, tuple[int, ...]]]
_recording: list[_Records] = []
"""Where the layers that attend are noted, while somebody asks for it."""


@contextmanager
def recorded_attention() -> Iterator[_Records]:
    """The layers that attend while the context lasts, each with a tap from now on, and the shape of their weights."""
    _recording.append([])
    try:
        yield _recording[-1]
    finally:
        _recording.pop()


def watched_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **options: Any,
) -> tuple[Tensor, Tensor | None]:
    """Attend, [N, heads, T, E] each, as a layer of `transformers` asks for it; the result is [N, T, heads, E]."""
    if _recording:
        module.add_module(_TAP, nn.Identity())
        _recording[-1].append((module, (*query.shape[:3], key.shape[2])))
    tap = module._modules.get(_TAP)
    if tap is None or not tap._forward_hooks:
        attended, _ = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **options
        )
        return attended, None
    scores = query @ key.transpose(2, 3) * (query.shape[-1] ** -0.5 if scaling is None else scaling)
    if attention_mask is not None:
        scores = scores + attention_mask
    weights = tap(torch.softmax(scores, dim=-1, dtype=torch.float32).to(query.dtype))
    kept = nn.functional.dropout(weights, p=dropout, training=module.training)
    return (kept @ value).transpose(1, 2).contiguous(), weights


AttentionInterface.register(ATTENTION, watched_attention)
