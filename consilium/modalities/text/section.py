"""What a recipe says of notes."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from consilium.modalities.encoder_section import EncoderSection
from consilium.modalities.section import Fraction
from consilium.modalities.text.note import AFTERWARDS, NoteKind


class TextSection(EncoderSection):
    """The text encoder: a Hugging Face model by hub id or local folder, or a small BERT made from these numbers."""

    stage_keys: ClassVar[frozenset[str]] = frozenset({"note_kinds", "word_dropout"})

    note_kinds: tuple[NoteKind, ...] = (NoteKind.HISTORY, NoteKind.INDICATION)
    mask_notes: bool = True
    """Take names, dates, identifiers and addresses out of every note before the model, of cohorts and of requests."""
    model: str | None = None
    """Hub id or local folder; None: a BERT from the numbers below, with a WordPiece trained on the training notes."""
    licence: str | None = None
    """Of the model's weights; None: as its folder's README states it."""
    width: int = Field(default=128, ge=16)
    depth: int = Field(default=2, ge=1)
    heads: int = Field(default=4, ge=1)
    vocabulary: int = Field(default=4000, ge=100)
    units: Literal["pieces", "words"] = "pieces"
    """Of what the vocabulary is made that is learned where no model is named. words: whole ones that three patients'
    notes hold; what is not among them says nothing."""
    max_tokens: int = Field(default=192, ge=16, le=32_768)
    """Word pieces of a study's notes that are read; what is longer is cut off, with a warning."""
    window: int | None = Field(default=None, ge=16)
    """Word pieces that the model reads at a time; None: as many as it can. Longer notes are read in windows."""
    overlap: int | None = Field(default=None, ge=0)
    """Word pieces that neighbouring windows share; None: a quarter of a window."""
    dropout: Fraction = 0.1
    word_dropout: Fraction = 0.0
    """Share of a note's word pieces that a training batch blanks."""

    def reads(self, record: Any) -> bool:
        return record.kind in self.note_kinds

    @property
    def answers_read(self) -> tuple[str, ...]:
        return tuple(kind.value for kind in self.note_kinds if kind in AFTERWARDS)

    def joined(self, other: TextSection) -> TextSection:
        return self.model_copy(update={"note_kinds": tuple(dict.fromkeys((*self.note_kinds, *other.note_kinds)))})

    @property
    def masks_identifiers(self) -> bool:
        return self.mask_notes
