"""Spans of a text that are masked, and the way between the masked text and the one that was sent."""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from consilium.masking.clues import Clues
from consilium.masking.contacts import contacts
from consilium.masking.dates import dates
from consilium.masking.identifiers import identifiers
from consilium.masking.known_names import KnownNames
from consilium.masking.name_patterns import names_by_pattern

VERSION = 2
"""Of the rules: what they mask is part of what a model was trained on."""

PLACEHOLDERS = ("[name]", "[date]", "[id]", "[phone]", "[email]", "[url]", "[address]")

_PLACEHOLDER = re.compile("|".join(map(re.escape, PLACEHOLDERS)))
_OPAQUE = "\ue000"
"""Stands for a placeholder while rules look for more: no letter, digit, blank or sign that any of them knows."""

_PLAIN = {code: str(unicodedata.digit(chr(code))) for code in range(0x660, 0xFF1A) if chr(code).isdecimal()} | {
    ord(sign): plain for plain, signs in {"-": "－‐‑−", "/": "／", ".": "．", ":": "："}.items() for sign in signs
}
"""Digits and signs of every script as the rules know them, one for one: full-width, Arabic, Devanagari, Thai."""

_BETWEEN_NAMES = re.compile(r"[ \t^=・·\u3000-]{0,3}")
_MOST_PASSES = 8


@dataclass(frozen=True, slots=True)
class Span:
    """Characters `start` to `end` of the text that was sent, in whose place a model reads `shown`."""

    start: int
    end: int
    shown: str


@dataclass(frozen=True)
class MaskedText:
    """What a model reads of a note.

    Attributes
    ----------
    text : str
    spans : tuple of Span
        In order; placeholders that were sent as such are among them.
    """

    text: str
    spans: tuple[Span, ...]

    @cached_property
    def _starts(self) -> list[int]:
        """Where each span begins in `text`."""
        starts, gained = [], 0
        for span in self.spans:
            starts.append(span.start + gained)
            gained += len(span.shown) - (span.end - span.start)
        return starts

    def origin(self, start: int, end: int) -> tuple[int, int]:
        """The characters of the sent text that characters `start` to `end` of `text` stand for."""
        return self._origin(start, at_end=False), self._origin(end, at_end=True)

    def _origin(self, place: int, *, at_end: bool) -> int:
        number = bisect_right(self._starts, place - at_end) - 1
        if number < 0:
            return place
        span, begin = self.spans[number], self._starts[number]
        past = place - begin - len(span.shown)
        if past >= 0:
            return span.end + past
        return span.end if at_end else span.start


def mask_text(text: str, names: Iterable[str] = ()) -> MaskedText:
    """`text` without what names its patient; masking what is masked changes nothing.

    Parameters
    ----------
    text : str
        As `consilium.modalities.text.records.clean_text` gives it.
    names : iterable of str
        What is known of the patient: names, plain or as DICOM writes them (``Yamada^Tarou=山田^太郎=やまだ^たろう``),
        and identifiers, which have digits. Each part of a name is looked for alone, whatever its case,
        accents and script; parts that are words too, only beside another part or a title.
    """
    known = KnownNames(names)
    spans = [Span(match.start(), match.end(), match.group()) for match in _PLACEHOLDER.finditer(text)]
    for _ in range(_MOST_PASSES):
        working = MaskedText(*_replaced(text, [Span(span.start, span.end, _OPAQUE) for span in spans]))
        found = [Span(*working.origin(start, end), shown) for start, end, shown in _found(working.text, known)]
        joined = _joined(text, _united([*spans, *found]))
        if joined == spans:
            break
        spans = joined
    return MaskedText(*_replaced(text, spans))


def _found(text: str, known: KnownNames) -> Iterator[tuple[int, int, str]]:
    text = text if text.isascii() else text.translate(_PLAIN)
    clues = Clues.of(text)
    yield from contacts(text, clues)
    yield from known.find(text)
    yield from dates(text, clues)
    yield from identifiers(text, clues)
    yield from names_by_pattern(text, clues)


def _united(spans: Iterable[Span]) -> list[Span]:
    """Overlapping spans as one, which shows what the longest of them showed."""
    united: list[Span] = []
    longest = 0
    for span in sorted(spans, key=lambda span: (span.start, -span.end)):
        if united and span.start < united[-1].end:
            last = united[-1]
            shown = span.shown if span.end - span.start > longest else last.shown
            longest = max(longest, span.end - span.start)
            united[-1] = Span(last.start, max(last.end, span.end), shown)
        else:
            united.append(span)
            longest = span.end - span.start
    return united


def _joined(text: str, spans: Sequence[Span]) -> list[Span]:
    """Names that stand beside each other as one: a placeholder does not tell how many parts a name has."""
    joined: list[Span] = []
    for span in spans:
        last = joined[-1] if joined else None
        if (
            last is not None
            and last.shown == span.shown == "[name]"
            and _BETWEEN_NAMES.fullmatch(text, last.end, span.start)
        ):
            joined[-1] = Span(last.start, span.end, span.shown)
        else:
            joined.append(span)
    return joined


def _replaced(text: str, spans: Sequence[Span]) -> tuple[str, tuple[Span, ...]]:
    pieces, done = [], 0
    for span in spans:
        pieces += [text[done : span.start], span.shown]
        done = span.end
    return "".join([*pieces, text[done:]]), tuple(spans)
