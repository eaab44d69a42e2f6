"""Notes of one sentence, and the sentences of notes."""

from __future__ import annotations

import re
from dataclasses import replace

from consilium.modalities.pretraining.sentences import Sentences
from consilium.modalities.text.note import Note
from consilium.modalities.text.section import TextSection

_END = re.compile(r"(?<=[.!?;])\s+|\n+")


def _record(sentence: str, section: TextSection) -> Note:
    return Note(section.note_kinds[0], sentence)


def _split(note: Note) -> tuple[Note, ...]:
    return tuple(replace(note, text=part.strip()) for part in _END.split(note.text) if part.strip())


def _words(note: Note) -> str:
    return note.text


SENTENCES = Sentences(_record, _split, _words)
