"""Arrays of single records become those of a part, of one shape or of any length, and come apart again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from consilium.domain.study import Record
from consilium.modalities.converter import Array, Converter
from consilium.modalities.part import Part


class Rows(Converter):
    """Two numbers a row."""

    array, key, shape, dtype = "rows", "rows1", (2,), np.int16

    def __init__(self, *, end_to_end: bool) -> None:
        self.end_to_end = end_to_end

    def __call__(self, record: Any, /) -> Array:
        return np.asarray(record, np.int16)

    def facts(self, record: Any) -> Mapping[str, Any]:
        return {}

    def stand_in(self, digest: str, facts: Mapping[str, Any]) -> Record:
        raise NotImplementedError


def test_arrays_of_one_shape_are_rows() -> None:
    rows = Rows(end_to_end=False)
    joined = rows.joined([np.array([1, 2], np.int16), np.array([3, 4], np.int16)])

    assert joined.tolist() == [[1, 2], [3, 4]]
    assert [array.tolist() for array in rows.separated(Part(arrays={"rows": joined}))] == [[1, 2], [3, 4]]


def test_arrays_of_any_length_are_joined_end_to_end() -> None:
    rows = Rows(end_to_end=True)
    joined = rows.joined([np.array([[1, 2]], np.int16), np.array([[3, 4], [5, 6]], np.int16)])

    assert joined.tolist() == [[1, 2], [3, 4], [5, 6]]
    with pytest.raises(TypeError, match="Rows must derive separated"):
        rows.separated(Part(arrays={"rows": joined}))


@pytest.mark.parametrize("end_to_end", [False, True])
def test_no_record_gives_no_row(end_to_end: bool) -> None:
    nothing = Rows(end_to_end=end_to_end).joined([])

    assert (nothing.shape, nothing.dtype) == ((0, 2), np.int16)
