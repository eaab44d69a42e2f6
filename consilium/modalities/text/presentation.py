"""Which words of the notes are evidence: how they are shown and sent; and the notes of a stored study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from consilium.domain.study import Study
from consilium.domain.wire import Wire, WireValue
from consilium.modalities.presentation import Presentation, RecordViewing, ViewContext
from consilium.modalities.text.note import Note, NoteKind

_MOST_ROWS = 6
_FAINT = 0.25
"""Log-odds: where no word weighs this much, none is shown in full colour."""
_READABLE = 0.25
"""Share of the strongest word's weight from which a word is underlined, too."""


@dataclass(frozen=True, slots=True)
class WordWeight(WireValue):
    """How much evidence one word of a note is, in log-odds.

    `start` and `end` count characters of that note in Unicode NFC, trimmed, with line feeds as line ends and without
    control characters: code points, as Python counts. `start_utf16` and `end_utf16` count UTF-16 code units of the same
    text, as JavaScript, Java and C# do.
    """

    note: int
    """Position among the notes sent."""
    start: int
    end: int
    text: str
    """As the model read it: a placeholder where it was masked."""
    weight: float
    start_utf16: int | None = None
    end_utf16: int | None = None


class TextInformation(Wire):
    """Which notes the model reads."""

    note_kinds: tuple[str, ...]
    mask_notes: bool
    """Whether names, dates, identifiers, telephone numbers and addresses are masked before the model reads them."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of a note; `weight` is 0 between weighed words, `strength` in [0, 1] for the colour.

    `read_as` is the placeholder that the model read instead, where it did not read the text.
    """

    text: str
    weight: float
    strength: float
    read_as: str = ""

    @property
    def side(self) -> str:
        return "for" if self.weight > 0 else "against"

    @property
    def readable(self) -> bool:
        return self.strength >= _READABLE


def _cards(study: Study, findings: Sequence[tuple[WordWeight, ...]]) -> list[Mapping[str, Any] | None]:
    notes: Sequence[Note] = study.parts["text"]
    return [{"notes": _notes(notes, words)} if notes else None for words in findings]


def _notes(notes: Sequence[Note], words: Sequence[WordWeight]) -> list[dict[str, Any]]:
    return [
        {"kind": note.kind.value, "time": note.time, "segments": _segments(note.text, number, words)}
        for number, note in enumerate(notes)
    ]


def _segments(text: str, number: int, words: Sequence[WordWeight]) -> list[Segment]:
    """The note cut where weighed words begin and end."""
    strongest = max([abs(word.weight) for word in words] + [_FAINT])
    segments: list[Segment] = []
    done = 0
    for word in sorted((w for w in words if w.note == number), key=lambda w: w.start):
        segments.append(Segment(text[done : word.start], 0.0, 0.0))
        sent = text[word.start : word.end]
        read_as = word.text if word.text != sent else ""
        segments.append(Segment(sent, word.weight, abs(word.weight) / strongest, read_as))
        done = word.end
    segments.append(Segment(text[done:], 0.0, 0.0))
    return [segment for segment in segments if segment.text]


def _rows(words: Sequence[WordWeight]) -> list[tuple[str, float]]:
    return [(word.text, word.weight) for word in sorted(words, key=lambda w: -abs(w.weight))[:_MOST_ROWS]]


PRESENTATION = Presentation(
    wire=WordWeight,
    information=TextInformation,
    template="consilium.modalities.text:explanation.html.j2",
    cards=_cards,
    unit="words",
    rows=_rows,
)


class NoteView(Wire):
    """One note of a stored study."""

    kind: NoteKind
    time: datetime | None
    text: str
    """In Unicode NFC, trimmed, with line feeds as line ends: what the offsets of weighed words count in."""
    used: bool
    """Within the model's time window. Which kinds it reads is part of its recipe (`GET /v1/model`)."""


def _views(notes: Sequence[Note], context: ViewContext) -> list[NoteView]:
    return [NoteView(kind=note.kind, time=note.time, text=note.text, used=note in context.used) for note in notes]


VIEWING = RecordViewing(wire=NoteView, view=_views)
