"""Which of many vectors point most nearly as a given one does.

Up to `EXACT` vectors are compared with it one by one: a matrix product of a few milliseconds. More are sorted into
cells, each around a centre, and those of the nearest `_PROBED` cells are compared (an inverted file: Sivic and
Zisserman 2003; faiss, Douze et al. 2024): ``python benchmarks/similar_cases.py`` says how many of the nearest that
finds, and how fast. Centres and cells are stored as plain arrays; faiss reads no file.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from consilium.domain.errors import ArtifactError

Floats = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]

EXACT = 100_000
"""Vectors that are compared one by one."""
_PER_CELL = 500
_LEARNED_FROM = 64
"""Vectors a cell that its centre is learned from."""
_PROBED = 64
"""Cells whose vectors are compared."""
_MORE = 16
"""Candidates beside those that are asked for: of equally like ones the first are given."""
_CENTRES, _CELLS = "index/centres", "index/cells"


class VectorIndex:
    """N vectors of length 1.

    Parameters
    ----------
    vectors : float32 [N, D]
    centres : float32 [C, D], optional
        Those of the cells; none where all vectors are compared.
    cells : int32 [N], optional
        The cell of each vector.
    """

    def __init__(self, vectors: Floats, centres: Floats | None = None, cells: npt.NDArray[np.int32] | None = None):
        self.vectors = vectors
        self._centres, self._cells = centres, cells
        self._lists = None if centres is None or cells is None else _inverted_lists(vectors, centres, cells)

    def __len__(self) -> int:
        return len(self.vectors)

    @classmethod
    def build(cls, vectors: Floats) -> Self:
        """Sort `vectors` into cells where there are more than `EXACT`; half a minute for a million."""
        if len(vectors) <= EXACT:
            return cls(vectors)
        centres = _centres(vectors, len(vectors) // _PER_CELL)
        return cls(vectors, centres, _nearest_centre(vectors, centres))

    def tensors(self) -> dict[str, npt.NDArray]:
        """The cells as named arrays, to be stored beside the vectors; nothing where there are none."""
        if self._centres is None or self._cells is None:
            return {}
        return {_CENTRES: self._centres, _CELLS: self._cells}

    @classmethod
    def of(cls, vectors: Floats, tensors: Mapping[str, npt.NDArray]) -> Self:
        """What `tensors` gave, with the `vectors` that it was built of.

        Raises
        ------
        ArtifactError
            Where they do not fit together.
        """
        centres, cells = tensors.get(_CENTRES), tensors.get(_CELLS)
        if centres is None and cells is None:
            return cls(vectors)
        if centres is None or cells is None or not _fit(vectors, centres, cells):
            raise ArtifactError("the index of vectors does not fit them")
        return cls(vectors, centres, cells)

    def nearest(self, asked: Floats, k: int, among: npt.NDArray[np.bool_] | None = None) -> tuple[Rows, Floats]:
        """The rows of the `k` vectors (all, where there are fewer) nearest to `asked` [D], and their inner products.

        Most alike first; of two that are equally alike the one with the lower row. Of those alone that `among` [N]
        names, where it is given.
        """
        rows = self._candidates(asked, k, among)
        alike = (self.vectors if rows is None else self.vectors[rows]) @ asked
        first = _largest(alike, k)
        return (first if rows is None else rows[first]), alike[first]

    def _candidates(self, asked: Floats, k: int, among: npt.NDArray[np.bool_] | None) -> Rows | None:
        """Rows, in rising order, among which the nearest are; None: all."""
        chosen = None if among is None else np.flatnonzero(among)
        if self._lists is None or (chosen is not None and len(chosen) <= EXACT):
            return chosen
        found = _probe(self._lists, asked, k + _MORE, among)
        return found if len(found) >= min(k, len(self)) else chosen  # cells with too few of them


def _largest(values: Floats, k: int) -> Rows:
    """Positions of the `k` largest `values`, largest first; of equal ones the first."""
    if k < len(values):
        least = np.partition(values, len(values) - k)[len(values) - k]
        positions = np.flatnonzero(values >= least)
    else:
        positions = np.arange(len(values))
    return positions[np.argsort(-values[positions], kind="stable")][:k]


def _fit(vectors: Floats, centres: npt.NDArray, cells: npt.NDArray) -> bool:
    if centres.ndim != 2 or centres.shape[1] != vectors.shape[1] or cells.shape != vectors.shape[:1]:
        return False
    types = centres.dtype == np.float32 and cells.dtype == np.int32
    return types and bool(np.isfinite(centres).all()) and bool(((cells >= 0) & (cells < len(centres))).all())


# --- faiss -----------------------------------------------------------------------------------------------------------


def _centres(vectors: Floats, count: int) -> Floats:
    import faiss

    kmeans = faiss.Kmeans(
        vectors.shape[1], count, niter=8, seed=1, spherical=True, max_points_per_centroid=_LEARNED_FROM
    )
    drawn = np.random.default_rng(0).choice(len(vectors), min(len(vectors), count * _LEARNED_FROM), replace=False)
    kmeans.train(vectors[np.sort(drawn)])
    return np.ascontiguousarray(kmeans.centroids, np.float32)


def _nearest_centre(vectors: Floats, centres: Floats) -> npt.NDArray[np.int32]:
    flat = _flat(centres)
    _, cells = flat.search(np.ascontiguousarray(vectors), 1)
    return cells[:, 0].astype(np.int32)


def _flat(centres: Floats) -> Any:
    import faiss

    flat = faiss.IndexFlatIP(centres.shape[1])
    flat.add(np.ascontiguousarray(centres))
    return flat


def _inverted_lists(vectors: Floats, centres: Floats, cells: npt.NDArray[np.int32]) -> Any:
    """Vectors by cell, as float16, which is how they are stored."""
    import faiss

    width = centres.shape[1]
    kind = faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT
    lists = faiss.IndexIVFScalarQuantizer(_flat(centres), width, len(centres), *kind)
    lists.is_trained = True
    lists.nprobe = min(_PROBED, len(centres))
    values, places = np.ascontiguousarray(vectors), cells.astype(np.int64)
    lists.add_core(len(values), faiss.swig_ptr(values), None, faiss.swig_ptr(places))
    return lists


def _probe(lists: Any, asked: Floats, k: int, among: npt.NDArray[np.bool_] | None) -> Rows:
    import faiss

    chosen = {}
    if among is not None:
        bits = np.packbits(among, bitorder="little")
        chosen = {"sel": faiss.IDSelectorBitmap(bits)}
    options = faiss.SearchParametersIVF(nprobe=lists.nprobe, **chosen)
    _, rows = lists.search(np.ascontiguousarray(asked[None]), k, params=options)
    return np.sort(rows[0][rows[0] >= 0])
