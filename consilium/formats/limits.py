"""Limits: what is too large to be looked at."""

from __future__ import annotations

from dataclasses import dataclass

from consilium.domain.errors import TooLarge


@dataclass(frozen=True, slots=True)
class Limits:
    """Upper bounds on one study's records; beyond them is `TooLarge`.

    Attributes
    ----------
    image_bytes : int
        Size of one image file.
    image_pixels : int
        Rows times columns of one image, as declared by the file and as declared by its compressed stream.
    notes, note_characters : int
        Number of notes, and length of each.
    observations : int
        Number of observations.
    """

    image_bytes: int = 128 * 2**20
    image_pixels: int = 64 * 10**6
    notes: int = 64
    note_characters: int = 20_000
    observations: int = 2_000

    def check_bytes(self, size: int) -> None:
        """Raise `TooLarge` where a file of `size` bytes exceeds the limit."""
        if size > self.image_bytes:
            raise TooLarge("size", size, f"must be at most {self.image_bytes} bytes")

    def check_pixels(self, rows: int, columns: int) -> None:
        """Raise `TooLarge` where an image of `rows` x `columns` exceeds the limit."""
        if rows * columns > self.image_pixels:
            raise TooLarge("size", f"{rows} x {columns}", f"must be at most {self.image_pixels} pixels")


DEFAULT_LIMITS = Limits()
