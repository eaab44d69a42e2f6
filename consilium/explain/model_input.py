"""What the model read of a study: its words and its values."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from consilium.domain.diagnosis import WordWeight
from consilium.domain.study import Note
from consilium.masking import Span
from consilium.preprocessing.batch import EncodedText

_WORD = re.compile(r"\w+(?:[-'./]\w+)*%?")


def words_of(text: EncodedText, notes: Sequence[Note]) -> list[tuple[WordWeight, npt.NDArray[np.intp]]]:
    """Every word that the model read, with weight 0, and the positions of its pieces in `text`."""
    found = []
    for number, note in enumerate(notes):
        pieces = [(i, p) for i, p in enumerate(text.pieces) if p is not None and p.note == number]
        for start, end, shown in _shown_words(note.text, text.masked.get(number, ())):
            inside = [i for i, piece in pieces if start <= piece.start < end]
            if inside:
                found.append((WordWeight(number, start, end, shown, 0.0), np.array(inside)))
    return found


def _shown_words(text: str, masked: Sequence[Span]) -> Iterator[tuple[int, int, str]]:
    """Start, end and what the model read of every word, placeholders among them."""
    done = 0
    for span in masked:
        yield from ((*match.span(), match[0]) for match in _WORD.finditer(text, done, span.start))
        yield span.start, span.end, span.shown
        done = span.end
    yield from ((*match.span(), match[0]) for match in _WORD.finditer(text, done))


def known_features(observations: npt.NDArray[np.float32]) -> tuple[int, ...]:
    """Positions of the features that the study has."""
    return tuple(int(position) for position in np.flatnonzero(np.isfinite(observations)))
