"""Which words of the notes are evidence for a finding. Every method gives float [P, W]: P findings, W words read."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from consilium.explain.case import Case, Floats
from consilium.explain.methods import FAST, THOROUGH, Method, ModalityExplanation
from consilium.masking import Span
from consilium.modalities.part import MASK
from consilium.modalities.text.encoder import TextEncoder
from consilium.modalities.text.note import Note
from consilium.modalities.text.preparation import INPUT_IDS, TextPart
from consilium.modalities.text.presentation import WordWeight
from consilium.modalities.tokens import Tokens
from consilium.preprocessing.batch import Prepared
from consilium.preprocessing.collate import Preprocessing

TEXT = "text"

Word = tuple[WordWeight, npt.NDArray[np.intp]]
"""A word that the model read, with weight 0, and the positions of its pieces."""

_WORD = re.compile(r"\w+(?:[-'./]\w+)*%?")
_STEPS = 16
"""Points of the path that integrated gradients take."""


def words_of(text: TextPart, notes: Sequence[Note]) -> list[Word]:
    """Every word that the model read, with weight 0, and the positions of its pieces in `text`."""
    found = []
    for number, note in enumerate(notes):
        pieces = [(i, p) for i, p in enumerate(text.pieces) if p is not None and p.note == number]
        for start, end, shown in _shown_words(note.text, text.masked.get(number, ())):
            inside = [i for i, piece in pieces if start <= piece.start < end]
            if inside:
                units = utf16_length(note.text[:start]), utf16_length(note.text[:end])
                found.append((WordWeight(number, start, end, shown, 0.0, *units), np.array(inside)))
    return found


def utf16_length(text: str) -> int:
    """Code units of UTF-16 that `text` takes."""
    return len(text) + sum(character > "\uffff" for character in text)


def _shown_words(text: str, masked: Sequence[Span]) -> Iterator[tuple[int, int, str]]:
    """Start, end and what the model read of every word, placeholders among them."""
    done = 0
    for span in masked:
        yield from ((*match.span(), match[0]) for match in _WORD.finditer(text, done, span.start))
        yield span.start, span.end, span.shown
        done = span.end
    yield from ((*match.span(), match[0]) for match in _WORD.finditer(text, done))


def words_read(case: Case) -> Sequence[Word]:
    """The words of the case's study that the model read."""
    return case.units[TEXT]


def log_odds_of_pieces(case: Case, mask: Tensor) -> Floats:
    """Calibrated log-odds [N, F] where only the word pieces of `mask` (bool [N, L]) are read."""

    def encode(rows: slice) -> Tokens:
        read = mask[rows]
        ids = case.batch.inputs[TEXT][INPUT_IDS].expand(len(read), -1)
        tokens: Tokens = _encoder(case)({INPUT_IDS: ids, MASK: read})
        return tokens

    return case.log_odds_of_copies(TEXT, encode, len(mask))


def log_odds_of_words(case: Case, kept: npt.NDArray[np.bool_]) -> Floats:
    """Calibrated log-odds [N, F] of copies without the words that are not `kept` (bool [N, W])."""
    mask = case.batch.inputs[TEXT][MASK].repeat(len(kept), 1)
    for row, among in enumerate(kept):
        for (_, pieces), there in zip(words_read(case), among, strict=True):
            if not there:
                mask[row, torch.from_numpy(pieces)] = False
    return log_odds_of_pieces(case, mask)


def gradient_x_embedding(case: Case, positions: Sequence[int]) -> Floats:
    """Gradient × (embedding - average embedding), summed over a word's pieces (Denil et al. 2014).

    The average stands for a word that says nothing; zero is no word at all.
    """
    apart = case.traced[TEXT].detach() - _average(case)
    return np.stack([_by_word(case, (apart * case.gradients(p)[TEXT]).sum(-1)[0]) for p in positions])


def integrated_gradients(case: Case, positions: Sequence[int]) -> Floats:
    """The gradient's mean along the straight line from average embeddings to the words' own, times their difference.

    Markers and special pieces keep their embeddings, so that the line's beginning is a note of the same form. Along the
    line the weights of the words add up to what they changed (Sundararajan et al. 2017, completeness).
    """
    encoder, own = _encoder(case), case.traced[TEXT].detach()
    ours = torch.zeros(own.shape[1], dtype=torch.bool, device=own.device)
    for _, pieces in words_read(case):
        ours[torch.from_numpy(pieces).to(own.device)] = True
    apart = torch.where(ours[:, None], own - _average(case), 0.0)
    share = (torch.arange(_STEPS, device=own.device) + 0.5) / _STEPS
    with torch.enable_grad():
        path = (own - (1 - share)[:, None, None] * apart).requires_grad_()
        repeated = {name: tensor.expand(_STEPS, -1) for name, tensor in case.batch.inputs[TEXT].items()}
        tokens = encoder.from_embeddings(repeated, path)
        fused = case.fuse_with(TEXT, tokens)
    found = []
    for position in positions:
        target = (fused * case.direction(fused, position)).sum()
        (slope,) = torch.autograd.grad(target, path, retain_graph=True)
        found.append(_by_word(case, (slope.mean(dim=0) * apart[0]).sum(-1)))
    return np.stack(found)


def leave_one_out(case: Case, positions: Sequence[int]) -> Floats:
    """What the log-odds lose when the pieces of a word are masked."""
    without = log_odds_of_words(case, ~np.eye(len(words_read(case)), dtype=bool))
    lost = case.log_odds(case.fused) - without
    return lost[:, list(positions)].T


def _encoder(case: Case) -> TextEncoder:
    encoder = case.model.encoders[TEXT]
    assert isinstance(encoder, TextEncoder)
    return encoder


def _average(case: Case) -> Tensor:
    """Mean embedding of the vocabulary, [E]; of a bag of words 0, which is a word that is not there."""
    encoder = _encoder(case)
    weights: Tensor = encoder.word_embeddings.weight.detach()
    return torch.zeros_like(weights[0]) if encoder.one_scale else weights.mean(dim=0)


def _by_word(case: Case, pieces: Tensor) -> Floats:
    """Weights [L] of pieces, summed by word, [W]."""
    weights = pieces.detach().float().cpu().numpy()
    return np.array([weights[where].sum() for _, where in words_read(case)], np.float64)


def _units(prepared: Prepared, preprocessing: Preprocessing) -> list[Word]:
    del preprocessing
    return words_of(prepared.parts[TEXT], prepared.study.parts[TEXT])


def _attributions(case: Case, weights: npt.NDArray) -> tuple[WordWeight, ...]:
    return tuple(
        replace(word, weight=float(weight)) for (word, _), weight in zip(words_read(case), weights, strict=True)
    )


EXPLANATION = ModalityExplanation(
    methods=(
        Method("gradient_x_embedding", gradient_x_embedding, fast=True),
        Method("integrated_gradients", integrated_gradients),
        Method("leave_one_out", leave_one_out),
    ),
    defaults={FAST: "gradient_x_embedding", THOROUGH: "leave_one_out"},
    units=_units,
    attributions=_attributions,
    log_odds_keeping=log_odds_of_words,
)
