"""Rows of an evaluation: which way of answering a line of its tables is about."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

ALL_PRESENT = "as_present"
"""In place of a subset: from every modality that a study has."""


class RowKind(StrEnum):
    """Who answers."""

    FUSED = "fused"
    """The fused model; `Row.name` is `ALL_PRESENT` or the key of a modality subset."""
    ALONE = "alone"
    """A modality's own head; `Row.name` is the modality."""
    BASELINE = "baseline"
    """A simpler method on the same studies; `Row.name` is the method."""
    ORACLE = "oracle"
    """The best possible answer; `Row.name` as for `FUSED`."""


@dataclass(frozen=True, slots=True, order=True)
class Row:
    """One way of answering.

    Attributes
    ----------
    kind : RowKind
    name : str
        See `RowKind`.
    """

    kind: RowKind
    name: str

    def __str__(self) -> str:
        """How files and MLflow name it: ``fused/as_present``, ``fused/image+text``, ``alone/image``."""
        return f"{self.kind}/{self.name}"

    @classmethod
    def parse(cls, text: str) -> Row:
        """The row that files name `text`.

        Raises
        ------
        ValueError
            `text` does not start with a kind and a slash.
        """
        kind, slash, name = text.partition("/")
        if not slash:
            raise ValueError(f"the row {text!r} must read KIND/NAME, such as {AS_PRESENT}")
        return cls(RowKind(kind), name)

    @property
    def title(self) -> str:
        """For readers: ``image + text``, ``image, own head``, ``all that is present``."""
        if self.kind is RowKind.ALONE:
            return f"{self.name}, own head"
        return self.name.replace(ALL_PRESENT, "all that is present").replace("+", " + ")

    @property
    def of_one_subset(self) -> bool:
        """Whether it is the fused model's answer from one modality subset, whatever else a study has."""
        return self.kind is RowKind.FUSED and self.name != ALL_PRESENT


AS_PRESENT = Row(RowKind.FUSED, ALL_PRESENT)
"""The fused model's answers from all that each study has: those of the service."""


def fused(subset: str) -> Row:
    """The fused model from one modality subset."""
    return Row(RowKind.FUSED, subset)


def alone(modality: str) -> Row:
    """A modality's own head."""
    return Row(RowKind.ALONE, modality)
