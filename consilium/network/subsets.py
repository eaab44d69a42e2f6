"""Modality subsets as rows of one batch: a study is encoded once and fused in one pass for many subsets.

A fusion reads masks, so that a subset is a row in which the other modalities are masked. Subsets go through the fusion
as many at a time as fit into `MOST_TOKENS`; a modality that none of them has costs one masked token instead of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import combinations

import torch
from torch import Tensor

from consilium.modalities.registry import in_order
from consilium.modalities.tokens import Tokens

Subset = frozenset[str]

MOST_TOKENS = 8192
"""Tokens of one pass, all rows together, padding included."""


def few_subsets(modalities: Sequence[str]) -> list[Subset]:
    """Every modality alone, all but one, and all: 2M + 1 of 2^M - 1 subsets, smallest first."""
    names = in_order(modalities)
    sizes = sorted({1, len(names) - 1, len(names)} - {0})
    return [frozenset(chosen) for size in sizes for chosen in combinations(names, size)]


def fuse_subsets(
    fuse: Callable[[dict[str, Tokens]], Tensor],
    tokens: Mapping[str, Tokens],
    subsets: Sequence[Subset],
    most_tokens: int = MOST_TOKENS,
) -> dict[Subset, Tensor]:
    """What `fuse` makes of `tokens` where only the modalities of each subset are there, in the order of `subsets`.

    Parameters
    ----------
    fuse : callable
        From tokens of B studies to logits [B, F].
    tokens : mapping of str to Tokens
        Of B studies, of every modality that `fuse` reads.
    """
    found: dict[Subset, Tensor] = {}
    for together in _passes(tokens, subsets, most_tokens):
        logits = fuse({name: _rows(own, name, together) for name, own in tokens.items()})
        found |= zip(together, logits.reshape(len(together), -1, logits.shape[-1]).unbind(), strict=True)
    return {subset: found[subset] for subset in subsets}


def _passes(tokens: Mapping[str, Tokens], subsets: Sequence[Subset], most_tokens: int) -> Iterator[list[Subset]]:
    """`subsets` in groups; neighbours share the modalities of many tokens, which the others then do without."""
    longest_first = sorted(tokens, key=lambda name: -tokens[name].mask.shape[1])
    together: list[Subset] = []
    for subset in sorted(subsets, key=lambda subset: [name in subset for name in longest_first]):
        if together and _size(tokens, [*together, subset]) > most_tokens:
            yield together
            together = []
        together.append(subset)
    if together:
        yield together


def _size(tokens: Mapping[str, Tokens], together: Sequence[Subset]) -> int:
    """Tokens of one pass over `together`."""
    everywhere = frozenset[str]().union(*together)
    lengths = [own.mask.shape[1] if name in everywhere else 1 for name, own in tokens.items()]
    studies = max(len(own.mask) for own in tokens.values())
    return len(together) * studies * sum(lengths)


def _rows(own: Tokens, name: str, together: Sequence[Subset]) -> Tokens:
    """The tokens of one modality for every subset, study by study below each other."""
    has = torch.tensor([name in subset for subset in together], device=own.mask.device)
    if not has.any():
        own = Tokens(own.values[:, :1], torch.zeros_like(own.mask[:, :1]))
    values = own.values.expand(len(together), *own.values.shape).flatten(0, 1)
    return Tokens(values, (own.mask & has[:, None, None]).flatten(0, 1))
