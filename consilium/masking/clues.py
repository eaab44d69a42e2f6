"""What a text has at all, found once, so that most rules need not be tried on most notes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

_WORD = re.compile(r"[A-Za-zÀ-ɏͰ-ԯ]+")
_NUMBER = re.compile(r"\d+")


@dataclass(frozen=True)
class Clues:
    """The words of a text in lower case, its numbers, and whether any letter is not ASCII.

    Attributes
    ----------
    words : frozenset of str
    numbers : tuple of str
        Digits that follow each other, in order.
    places : tuple of int
        Where each number begins.
    foreign : bool
    """

    words: frozenset[str]
    numbers: tuple[str, ...]
    places: tuple[int, ...]
    foreign: bool

    @classmethod
    def of(cls, text: str) -> Clues:
        """The clues of `text`."""
        numbers = list(_NUMBER.finditer(text))
        return cls(
            frozenset(word.lower() for word in set(_WORD.findall(text))),
            tuple(match[0] for match in numbers),
            tuple(match.start() for match in numbers),
            not text.isascii(),
        )

    def any_of(self, words: frozenset[str]) -> bool:
        """Whether the text has one of `words`."""
        return not self.words.isdisjoint(words)

    @cached_property
    def digits(self) -> int:
        """How many digits the text has."""
        return sum(map(len, self.numbers))

    @cached_property
    def longest(self) -> int:
        """How many digits its longest number has."""
        return max(map(len, self.numbers), default=0)


def words_of(text: str, wanted: frozenset[str]) -> list[int]:
    """Where in `text` each of `wanted` begins."""
    return [match.start() for match in _WORD.finditer(text) if match[0].lower() in wanted]


def matches_at(pattern: re.Pattern[str], text: str, places: Iterable[int]) -> Iterator[re.Match[str]]:
    """What `finditer` gives for a pattern that matches at `places` only, which is faster where these are few."""
    done = 0
    for place in places:
        if place >= done and (match := pattern.match(text, place)):
            yield match
            done = match.end()
