"""What each word of the notes spoke for. Every method gives float [P, W]: P findings, the W words of the case."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from consilium.domain.diagnosis import WordWeight
from consilium.explain.case import WORDS, Case, Floats
from consilium.modalities.text.encoder import TextEncoder

_STEPS = 16
"""Points of the path that integrated gradients take."""


def weighed(
    words: Sequence[tuple[WordWeight, npt.NDArray[np.intp]]], weights: Sequence[float] | Floats
) -> tuple[WordWeight, ...]:
    """The words with their `weights`."""
    return tuple(
        WordWeight(word.note, word.start, word.end, word.text, float(weight))
        for (word, _), weight in zip(words, weights, strict=True)
    )


def gradient_x_embedding(case: Case, positions: Sequence[int]) -> Floats:
    """Gradient × (embedding - average embedding), summed over a word's pieces (Denil et al. 2014).

    The average stands for a word that says nothing; zero is no word at all.
    """
    apart = case.traced[WORDS].detach() - _average(case)
    return np.stack([_by_word(case, (apart * case.gradients(p)[WORDS]).sum(-1)[0]) for p in positions])


def integrated_gradients(case: Case, positions: Sequence[int]) -> Floats:
    """The gradient's mean along the straight line from average embeddings to the words' own, times their difference.

    Markers and special pieces keep their embeddings, so that the line's beginning is a note of the same form. Along the
    line the weights of the words add up to what they changed (Sundararajan et al. 2017, completeness).
    """
    encoder, own = _encoder(case), case.traced[WORDS].detach()
    ours = torch.zeros(own.shape[1], dtype=torch.bool, device=own.device)
    for _, pieces in case.words:
        ours[torch.from_numpy(pieces).to(own.device)] = True
    apart = torch.where(ours[:, None], own - _average(case), 0.0)
    share = (torch.arange(_STEPS, device=own.device) + 0.5) / _STEPS
    with torch.enable_grad():
        path = (own - (1 - share)[:, None, None] * apart).requires_grad_()
        rows = (_STEPS, -1)
        said = encoder(case.batch.input_ids.expand(*rows), case.batch.text_mask.expand(*rows), path)
        fused = case.fuse_with("text", said)
    found = []
    for position in positions:
        target = (fused * case.direction(fused, position)).sum()
        (slope,) = torch.autograd.grad(target, path, retain_graph=True)
        found.append(_by_word(case, (slope.mean(dim=0) * apart[0]).sum(-1)))
    return np.stack(found)


def leave_one_out(case: Case, positions: Sequence[int]) -> Floats:
    """What the log-odds lose when the pieces of a word are masked."""
    mask = case.batch.text_mask.repeat(len(case.words), 1)
    for row, (_, pieces) in enumerate(case.words):
        mask[row, torch.from_numpy(pieces)] = False
    lost = case.log_odds(case.fused) - case.log_odds_with_words(mask)
    return lost[:, list(positions)].T


def _encoder(case: Case) -> TextEncoder:
    encoder = case.model.encoders["text"]
    assert isinstance(encoder, TextEncoder)
    return encoder


def _average(case: Case) -> Tensor:
    """Mean embedding of the vocabulary, [E]."""
    weights: Tensor = _encoder(case).model.get_input_embeddings().weight
    return weights.detach().mean(dim=0)


def _by_word(case: Case, pieces: Tensor) -> Floats:
    """Weights [L] of pieces, summed by word, [W]."""
    weights = pieces.detach().float().cpu().numpy()
    return np.array([weights[where].sum() for _, where in case.words], np.float64)
