"""Sentences: between the records of a modality that holds words, and the sentences that they consist of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Sentences:
    """What a modality declares whose records hold words.

    Attributes
    ----------
    record : callable
        ``(sentence, section) -> Record``: a record of the first kind that the recipe's section reads.
    split : callable
        ``(record) -> tuple of Record``: one for each of its sentences, in order, of its kind.
    words : callable
        ``(record) -> str``: what it says.
    """

    record: Callable[[str, Any], Any]
    split: Callable[[Any], tuple[Any, ...]]
    words: Callable[[Any], str]
