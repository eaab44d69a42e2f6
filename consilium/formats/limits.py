"""Limits: what is too large to be looked at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from consilium.domain.errors import TooLarge


class Limits(Mapping[str, int]):
    """Upper bounds on one study's records, by the names under which the modalities declare them; see `TooLarge`.

    ``images`` is how many there may be, ``image_bytes`` how large one file.
    """

    __slots__ = ("_most",)

    def __init__(self, most: Mapping[str, int]) -> None:
        self._most = dict(most)

    def __getitem__(self, name: str) -> int:
        return self._most[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._most)

    def __len__(self) -> int:
        return len(self._most)

    def but(self, **most: int) -> Limits:
        """These limits with others in the place of those that are named.

        Raises
        ------
        KeyError
            For a name that no modality declares.
        """
        for name in most:
            self._most[name]
        return Limits({**self._most, **most})


def check_bytes(size: int, most: int) -> None:
    """Raise `TooLarge` where a file of `size` bytes exceeds the limit."""
    if size > most:
        raise TooLarge("size", size, f"must be at most {most} bytes")


def check_pixels(rows: int, columns: int, most: int) -> None:
    """Raise `TooLarge` where an image of `rows` x `columns` exceeds the limit."""
    if rows * columns > most:
        raise TooLarge("size", f"{rows} x {columns}", f"must be at most {most} pixels")
