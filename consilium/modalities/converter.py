"""Converter: one record as the array that models read of it, wherever it is made.

A cohort's cache keeps such arrays, and the service's decoding processes return them in place of whole pictures. Without
torch, which these processes never import.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from consilium.domain.errors import ConsiliumError
from consilium.domain.study import Record

Array = npt.NDArray[Any]
R = TypeVar("R", bound=Record)


class NotConverted(ConsiliumError):
    """A condensed record does not hold the array that is asked for."""


class Converter(ABC):
    """One record as an array, the same whatever model reads it: what a cohort's cache keeps of a file on disk.

    Attributes
    ----------
    array : str
        Name of the array of a `Part` that the records' arrays are joined into.
    key : str
        Names everything that decides how a record is converted; part of a file's name.
    shape : tuple of int
        Of one row of that array.
    dtype : numpy dtype
    end_to_end : bool
        A record's array is any number of rows, [n, *shape], which are joined end to end; otherwise it is one row.
    in_decoder : bool
        The processes that decode files may convert them, too: the converter's module, and whatever that imports, is as
        light as the reader's, it can be pickled, and what it reads can be `Record.condensed`.
    """

    array: str
    key: str
    shape: tuple[int, ...]
    dtype: Any
    end_to_end: bool = False
    in_decoder: bool = False

    @abstractmethod
    def __call__(self, record: Any, /) -> Array:
        """The array of one record.

        Raises
        ------
        NotConverted
            Of a record that was condensed to the arrays of other converters.
        """

    @abstractmethod
    def facts(self, record: Any) -> Mapping[str, Any]:
        """What else is to be known of a record, as JSON holds it: without identifying names."""

    @abstractmethod
    def stand_in(self, digest: str, facts: Mapping[str, Any]) -> Record:
        """The record of these `facts` and this SHA-256, without what takes memory."""

    def fault(self, array: Array) -> str:
        """The rule that the array of a record breaks, so that the record says nothing; empty: none."""
        del array
        return ""

    def joined(self, arrays: Sequence[Array]) -> Array:
        """The array of a `Part`, [T, ...], of those of its records."""
        nothing = np.zeros((0, *self.shape), self.dtype)
        if self.end_to_end:
            return np.concatenate([nothing, *arrays])
        return np.stack(arrays) if len(arrays) else nothing

    def separated(self, part: Any) -> list[Array]:
        """The arrays of the records that `part`, a `consilium.modalities.part.Part`, was made of.

        Where they are joined end to end, the modality says how.

        Raises
        ------
        TypeError
            Where they are, and it does not.
        """
        if self.end_to_end:
            raise TypeError(f"{type(self).__name__} must derive separated: its arrays are joined end to end")
        return list(part.arrays[self.array])


def condensed(record: R, converters: Sequence[Converter]) -> R:
    """`record` with what `converters` make of it in place of what takes memory; as it is where there are none."""
    return record.condensed({one.key: one(record) for one in converters}) if converters else record
