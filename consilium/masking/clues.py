"""What a text has at all, found once, so that most rules need not be tried on most notes."""

from __future__ import annotations

import re
from dataclasses import dataclass

_WORD = re.compile(r"[a-zß-ɏͰ-ԯ]+")
_DIGIT = re.compile(r"\d")


@dataclass(frozen=True, slots=True)
class Clues:
    """The words of a text in lower case, how many digits it has, and whether any letter is not ASCII."""

    words: frozenset[str]
    digits: int
    foreign: bool

    @classmethod
    def of(cls, text: str) -> Clues:
        """The clues of `text`."""
        return cls(frozenset(_WORD.findall(text.lower())), len(_DIGIT.findall(text)), not text.isascii())

    def any_of(self, words: frozenset[str]) -> bool:
        """Whether the text has one of `words`."""
        return not self.words.isdisjoint(words)
