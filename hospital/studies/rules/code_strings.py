"""Code strings of DICOM as they are compared."""

from __future__ import annotations

from collections.abc import Collection


def folded(word: str | None) -> str:
    """A code string without regard to case, underscores and blanks around it."""
    return " ".join((word or "").upper().replace("_", " ").split())


def is_among(words: Collection[str], given: str | None) -> bool:
    """Whether `given` is one of `words`; of none, anything is."""
    return not words or folded(given) in {folded(word) for word in words}
