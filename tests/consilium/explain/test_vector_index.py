"""Which of many vectors are nearest: one by one, and by cells."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from consilium.domain.errors import ArtifactError
from consilium.explain import vector_index
from consilium.explain.vector_index import Floats, VectorIndex

WIDTH = 24


def _vectors(count: int, seed: int = 0) -> Floats:
    """Clusters, as the states of a model are."""
    rng = np.random.default_rng(seed)
    middles = rng.normal(size=(12, WIDTH))
    values = middles[rng.integers(0, 12, count)] + 0.7 * rng.normal(size=(count, WIDTH))
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float16).astype(np.float32)


@pytest.fixture
def small_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vector_index, "EXACT", 1_000)
    monkeypatch.setattr(vector_index, "_PER_CELL", 60)
    monkeypatch.setattr(vector_index, "_PROBED", 24)


def test_one_by_one_the_largest_products_come_first_and_of_equal_ones_the_first_row() -> None:
    vectors = np.array([[0, 1], [1, 0], [0.6, 0.8], [1, 0], [-1, 0]], np.float32)

    rows, alike = VectorIndex(vectors).nearest(np.array([1, 0], np.float32), 3)

    assert rows.tolist() == [1, 3, 2]
    assert alike.tolist() == pytest.approx([1, 1, 0.6])
    few, _ = VectorIndex(vectors).nearest(np.array([1, 0], np.float32), 9, np.array([1, 0, 1, 0, 1], bool))
    assert few.tolist() == [2, 0, 4]


@pytest.mark.usefixtures("small_cells")
def test_by_cells_nearly_all_of_the_nearest_are_found_with_their_exact_products() -> None:
    vectors, asked = _vectors(6_000), _vectors(40, seed=1)
    index, exact = VectorIndex.build(vectors), VectorIndex(vectors)
    assert index.tensors()
    assert not exact.tensors()
    found = 0
    for one in asked:
        rows, alike = index.nearest(one, 10)
        assert alike.tolist() == pytest.approx((vectors[rows] @ one).tolist(), abs=1e-6)
        assert (np.diff(alike) <= 0).all()
        found += len(set(rows.tolist()) & set(exact.nearest(one, 10)[0].tolist()))
    assert found / 400 > 0.95


@pytest.mark.usefixtures("small_cells")
def test_by_cells_only_chosen_rows_are_given_and_a_few_are_compared_one_by_one() -> None:
    vectors = _vectors(6_000)
    index, exact = VectorIndex.build(vectors), VectorIndex(vectors)
    many, few = np.arange(6_000) % 2 == 0, np.arange(6_000) % 1_000 == 7

    rows, _ = index.nearest(vectors[7], 20, many)
    assert (rows % 2 == 0).all()
    assert len(rows) == 20
    assert index.nearest(vectors[7], 20, few)[0].tolist() == exact.nearest(vectors[7], 20, few)[0].tolist()
    everything, _ = index.nearest(vectors[7], 6_000)
    assert sorted(everything.tolist()) == list(range(6_000))


@pytest.mark.usefixtures("small_cells")
def test_cells_come_back_from_arrays_and_what_does_not_fit_is_refused() -> None:
    vectors = _vectors(3_000)
    built = VectorIndex.build(vectors)
    tensors = built.tensors()
    read = VectorIndex.of(vectors, tensors)

    assert read.nearest(vectors[5], 10)[0].tolist() == built.nearest(vectors[5], 10)[0].tolist()
    centres, cells = tensors["index/centres"], tensors["index/cells"]
    beyond, short = cells.copy(), cells[:-1]
    beyond[3] = len(centres)
    for wrong in ({"index/cells": beyond}, {"index/cells": short}, {"index/centres": centres[:, :3]}):
        with pytest.raises(ArtifactError, match="does not fit"):
            VectorIndex.of(vectors, tensors | wrong)
    with pytest.raises(ArtifactError, match="does not fit"):
        VectorIndex.of(vectors, {"index/cells": cells})


def test_faiss_is_loaded_for_many_vectors_alone() -> None:
    code = (
        "import sys, numpy as np\n"
        "from consilium.explain.vector_index import VectorIndex\n"
        "VectorIndex.build(np.eye(3, dtype=np.float32)).nearest(np.ones(3, np.float32), 2)\n"
        "print('faiss' in sys.modules)"
    )
    printed = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout

    assert printed.strip() == "False"
