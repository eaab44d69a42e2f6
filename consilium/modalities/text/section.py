"""What a recipe says of notes."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from consilium.modalities.section import Fraction, ModalitySection
from consilium.modalities.text.note import NoteKind


class TextSection(ModalitySection):
    """The text encoder: a Hugging Face model by hub id or local folder, or a small BERT made from these numbers."""

    note_kinds: tuple[NoteKind, ...] = (NoteKind.HISTORY, NoteKind.INDICATION)
    mask_notes: bool = True
    """Take names, dates, identifiers and addresses out of every note before the model, of cohorts and of requests."""
    model: str | None = None
    """Hub id or local folder; None: a BERT from the numbers below, with a WordPiece trained on the training notes."""
    width: int = Field(default=128, ge=16)
    depth: int = Field(default=2, ge=1)
    heads: int = Field(default=4, ge=1)
    vocabulary: int = Field(default=4000, ge=100)
    max_tokens: int = Field(default=192, ge=16, le=512)
    dropout: Fraction = 0.1
    frozen: bool = False
    learning_rate: float | None = Field(default=None, gt=0)
    """Own rate for the text model, such as for a pretrained one; None: that of the training."""
    word_dropout: Fraction = 0.0
    """Share of a note's word pieces that a training batch blanks."""

    def reads(self, record: Any) -> bool:
        return record.kind in self.note_kinds

    @property
    def masks_identifiers(self) -> bool:
        return self.mask_notes
