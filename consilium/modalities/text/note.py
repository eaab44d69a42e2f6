"""Note: one passage of clinical text."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, ClassVar, Self

from consilium.domain.study import Record, iso_text


class NoteKind(StrEnum):
    """Which part of the record a note is. Findings and impression are written after the image was read."""

    HISTORY = "history"
    INDICATION = "indication"
    FINDINGS = "findings"
    IMPRESSION = "impression"


AFTERWARDS = frozenset({NoteKind.FINDINGS, NoteKind.IMPRESSION})
"""Kinds that give the answer away."""


@dataclass(frozen=True, slots=True)
class Note(Record):
    """A passage of clinical text, written at `time` (None: not known), which has an offset from UTC."""

    kind: NoteKind
    text: str
    time: datetime | None = None

    field: ClassVar[str] = "notes"

    def deidentified(self, names: Sequence[str], move: Callable[[datetime | None], datetime | None]) -> Self:
        from consilium.masking import mask_text

        return replace(self, text=mask_text(self.text, names).text, time=move(self.time))

    @property
    def digest(self) -> str:
        """SHA-256 of kind and text, in hex."""
        return hashlib.sha256(f"{self.kind.value}\n{self.text}".encode()).hexdigest()

    def sent(self) -> dict[str, Any]:
        return {"kind": self.kind.value, "text": self.text, "time": iso_text(self.time)}

    @property
    def kind_name(self) -> str:
        return self.kind.value

    @property
    def description(self) -> str:
        return f"note ({self.kind.value})"
