"""What the model read of a study: its words and its values."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from consilium.collate import EncodedText
from consilium.diagnosis import WordWeight
from consilium.study import Note

_WORD = re.compile(r"\w+(?:[-'./]\w+)*%?")


def words_of(text: EncodedText, notes: Sequence[Note]) -> list[tuple[WordWeight, npt.NDArray[np.intp]]]:
    """Every word that the model read, with weight 0, and the positions of its pieces in `text`."""
    found = []
    for number, note in enumerate(notes):
        pieces = [(i, p) for i, p in enumerate(text.pieces) if p is not None and p.note == number]
        for match in _WORD.finditer(note.text):
            inside = [i for i, piece in pieces if match.start() <= piece.start < match.end()]
            if inside:
                word = WordWeight(number, match.start(), match.end(), match.group(), 0.0)
                found.append((word, np.array(inside)))
    return found


def known_features(observations: npt.NDArray[np.float32]) -> tuple[int, ...]:
    """Positions of the features that the study has."""
    return tuple(int(position) for position in np.flatnonzero(np.isfinite(observations)))
