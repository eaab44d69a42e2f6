"""Attention that survives absence: a query that may look at nothing gets zeros, not NaN."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class MaskedAttention(nn.Module):
    """Multi-head attention of queries [B, Q, D] over tokens [B, T, D] with a mask (Vaswani et al. 2017)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)

    def forward(self, queries: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
        """`mask` bool [B, T], True where a token may be seen."""
        query = self.query(queries).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        key, value = self.key_value(tokens).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        empty = ~mask.any(dim=1)
        seen = (mask | empty[:, None])[:, None, None, :]
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=seen)
        mixed = self.out(mixed.transpose(1, 2).flatten(2))
        return mixed.masked_fill(empty[:, None, None], 0.0)


class AttentionPool(nn.Module):
    """Tokens [B, T, D] → one state [B, D]: the mean, and what learned queries look for, one query a head."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.randn(1, 1, width) * 0.02)
        self.attention = MaskedAttention(width, heads)
        self.norm = nn.LayerNorm(width)

    def forward(self, values: Tensor, mask: Tensor) -> Tensor:
        weights = mask.to(values.dtype)[..., None]
        mean = (values * weights).sum(1) / weights.sum(1).clamp(min=1)
        found = self.attention(self.query.expand(len(values), -1, -1), values, mask)[:, 0]
        return self.norm(mean + found)


def feed_forward(width: int, dropout: float) -> nn.Sequential:
    """The position-wise network of a transformer layer, twice as wide inside."""
    return nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Dropout(dropout), nn.Linear(2 * width, width))


class SelfAttentionLayer(nn.Module):
    """A transformer layer with its norms in front (Xiong et al. 2020, figure 1b): tokens [B, T, D] → [B, T, D]."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.attention = MaskedAttention(width, heads)
        self.feed = feed_forward(width, dropout)
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor, mask: Tensor, keep: int | None = None) -> Tensor:
        """`keep`: give the first so many tokens only, which is cheaper where no more are read."""
        first, second = self.norms
        seen = first(tokens)
        tokens = tokens[:, :keep] + self.dropout(self.attention(seen[:, :keep], seen, mask))
        return tokens + self.dropout(self.feed(second(tokens)))


class CrossAttentionLayer(nn.Module):
    """Queries [B, Q, D] that look at tokens [B, T, D], then at themselves through a feed-forward network."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))
        self.attention = MaskedAttention(width, heads)
        self.feed = feed_forward(width, dropout)
        self.dropout = nn.Dropout(dropout)

    def forward(self, queries: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
        asking, asked, second = self.norms
        queries = queries + self.dropout(self.attention(asking(queries), asked(tokens), mask))
        return queries + self.dropout(self.feed(second(queries)))
