"""Slices → volumes: by series and geometry, in the order of their positions along the normal, never by their numbers.

What does not fit together is named: gaps, slices that stand twice, distances that change, a tilted gantry.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from consilium.domain.errors import InputError
from consilium.modalities.volume.faults import Fault
from consilium.modalities.volume.files.grid import LEAST_SLICES, Grid
from consilium.modalities.volume.files.slice_header import SliceHeader

_MOST_GEOMETRIES = 64
_SAME_PLACE_MM = 0.01
_SAME_DISTANCE = 0.05
"""Share by which distances between slices may differ from each other: tables of old scanners move unevenly."""
_DIRECTION, _LENGTH = 1e-3, 1e-3
_MOST_MISSING, _LONGEST_GAP = 0.1, 3
_TILT_DEGREES = 0.5


@dataclass(frozen=True, slots=True, eq=False)
class Stack:
    """Slices of one volume.

    Attributes
    ----------
    slices : tuple of SliceHeader or None
        By position, from the first along the normal; None where one is missing.
    faults : tuple of Fault
    warnings : tuple of str
    """

    slices: tuple[SliceHeader | None, ...]
    grid: Grid
    faults: tuple[Fault, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def first(self) -> SliceHeader:
        """The first slice, which is never missing."""
        found = self.slices[0]
        assert found is not None
        return found

    @property
    def there(self) -> list[SliceHeader]:
        """The slices that are not missing."""
        return [one for one in self.slices if one is not None]


def by_series(headers: Sequence[SliceHeader]) -> list[list[SliceHeader]]:
    """The slices of each series, CT and MR apart, in the order of the series' numbers."""
    found: dict[tuple[str, str], list[SliceHeader]] = defaultdict(list)
    for one in headers:
        found[one.series, one.modality].append(one)
    return sorted(found.values(), key=lambda slices: (slices[0].series_number, slices[0].series, slices[0].modality))


def by_geometry(headers: Sequence[SliceHeader]) -> list[list[SliceHeader]]:
    """Slices of one size, spacing and orientation, the most first.

    Raises
    ------
    InputError
        Of a series of so many geometries that it is none.
    """
    groups: list[list[SliceHeader]] = []
    keys = np.zeros((0, 10))
    for one in headers:
        key = np.array([*one.along_row, *one.along_column, *one.spacing, one.pixels.rows, one.pixels.columns])
        distances = np.abs(keys - key)
        fits = (distances[:, :6] < _DIRECTION).all(axis=1) & (distances[:, 6:] < _LENGTH).all(axis=1)
        if fits.any():
            groups[int(fits.argmax())].append(one)
            continue
        if len(groups) == _MOST_GEOMETRIES:
            raise InputError("slices", f"more than {_MOST_GEOMETRIES} geometries", "must be of one volume or a few")
        groups.append([one])
        keys = np.vstack([keys, key])
    return sorted(groups, key=len, reverse=True)


def stacked(headers: Sequence[SliceHeader]) -> Stack:
    """One volume of slices of one geometry.

    Raises
    ------
    InputError
        Where they are none.
    """
    warnings: list[str] = []
    once = {one.instance: one for one in headers}
    if len(once) < len(headers):
        warnings.append(f"{len(headers) - len(once)} slices were sent twice")
    chosen, of_several = _one_acquisition(list(once.values()))
    warnings += of_several
    ordered, distances = _ordered(chosen)
    if len(ordered) < LEAST_SLICES:
        raise InputError("slices", len(ordered), f"must be at least {LEAST_SLICES} of one volume")
    begin, end, step = _regular(distances)
    faults = []
    if end - begin < len(ordered):
        faults.append(Fault.DISTANCES)
        warnings.append(f"{len(ordered) - (end - begin)} slices at other distances were left out")
    ordered, distances = ordered[begin:end], distances[begin:end]
    places = np.rint((distances - distances[0]) / step).astype(int)
    slices: list[SliceHeader | None] = [None] * (int(places[-1]) + 1)
    for place, one in zip(places, ordered, strict=True):
        slices[place] = one
    missing = slices.count(None)
    if missing:
        faults.append(Fault.GAPS)
        warnings.append(f"{missing} slices are missing")
    grid, tilt = _grid(ordered, places, len(slices))
    if tilt > _TILT_DEGREES:
        warnings.append(f"the gantry was tilted by {tilt:.0f} degrees, which was corrected")
    return Stack(tuple(slices), grid, tuple(faults), tuple(warnings))


def _ordered(headers: Sequence[SliceHeader]) -> tuple[list[SliceHeader], npt.NDArray[np.float64]]:
    first = headers[0]
    normal = np.cross(first.along_row, first.along_column)
    distances = np.array([one.position for one in headers]) @ normal
    order = np.argsort(distances, kind="stable")
    return [headers[i] for i in order], distances[order]


def _stands_twice(headers: Sequence[SliceHeader]) -> int:
    _, distances = _ordered(headers)
    return int((np.diff(distances) < _SAME_PLACE_MM).sum())


def _one_acquisition(headers: Sequence[SliceHeader]) -> tuple[list[SliceHeader], list[str]]:
    """Those of one acquisition, echo or phase, where several stand at each place; the first one with the most slices.

    Raises
    ------
    InputError
        Where slices stand at one place and nothing tells them apart.
    """
    twice = _stands_twice(headers)
    if not twice:
        return list(headers), []
    for attribute in dict.fromkeys(name for one in headers for name in one.attributes):
        groups: dict[str, list[SliceHeader]] = defaultdict(list)
        for one in headers:
            groups[one.attributes.get(attribute, "")].append(one)
        if len(groups) < 2 or len(groups) == len(headers) or any(_stands_twice(group) for group in groups.values()):
            continue
        most = max(len(group) for group in groups.values())
        chosen = next(group for group in groups.values() if len(group) == most)
        return chosen, [f"{len(groups)} volumes at one place, which differ in {attribute}: the first one was read"]
    raise InputError("slices", f"{twice} stand where another one stands", "must be one at each place")


def _regular(distances: npt.NDArray[np.float64]) -> tuple[int, int, float]:
    """From which slice to which the distances are one, but for slices that are missing; and that distance.

    Raises
    ------
    InputError
        Where that is less than half of the slices, or too many are missing.
    """
    steps = np.diff(distances)
    begin, end, step = max(_runs(steps), key=lambda run: run[1] - run[0])
    count = end - begin
    if count < LEAST_SLICES or count < len(distances) / 2:
        given = f"{float(steps.min()):.3g} to {float(steps.max()):.3g} mm"
        raise InputError("slices", given, "must be at one distance from each other, at least half of them")
    gaps = np.rint(steps[begin : end - 1] / step) - 1
    missing = int(gaps.sum())
    if missing > _MOST_MISSING * count or gaps.max(initial=0) > _LONGEST_GAP:
        rule = f"must miss at most {_MOST_MISSING:.0%}, and {_LONGEST_GAP} in a row"
        raise InputError("slices", f"{missing} missing between {count}", rule)
    return begin, end, float((distances[end - 1] - distances[begin]) / (count - 1 + missing))


def _runs(steps: npt.NDArray[np.float64]) -> Iterator[tuple[int, int, float]]:
    """Stretches of slices at one distance, which may lack some: for each of the commonest distances the longest."""
    rounded = Counter(np.round(steps, 2).tolist())
    for common, _ in rounded.most_common(4):
        if common <= 0:
            continue
        near = steps[np.abs(steps - common) <= _SAME_DISTANCE * common]
        step = float(np.median(near)) if len(near) else float(common)
        times = steps / step
        whole = (np.rint(times) >= 1) & (np.abs(times - np.rint(times)) <= _SAME_DISTANCE)
        whole &= np.rint(times) <= _LONGEST_GAP + 1
        edges = np.flatnonzero(np.diff(np.r_[False, whole, False].astype(int)))
        for begin, end in edges.reshape(-1, 2):
            yield int(begin), int(end) + 1, step
    yield 0, 1, 1.0


def _grid(ordered: Sequence[SliceHeader], places: npt.NDArray[np.int64], count: int) -> tuple[Grid, float]:
    """The grid, and by how many degrees the slices lean.

    Raises
    ------
    InputError
        Where the slices do not lie behind each other on a line.
    """
    first = ordered[0]
    positions = np.array([one.position for one in ordered])
    step = (positions[-1] - positions[0]) / (count - 1)
    aside = np.abs(positions - positions[0] - places[:, None] * step).max(axis=1)
    allowed = max(first.spacing) + _SAME_DISTANCE * float(np.linalg.norm(step))
    if aside.max() > allowed:
        raise InputError("ImagePositionPatient", f"{aside.max():.3g} mm aside", "must lie on one line")
    affine = np.eye(4)
    affine[:3, 0] = np.array(first.along_row) * first.spacing[1]
    affine[:3, 1] = np.array(first.along_column) * first.spacing[0]
    affine[:3, 2], affine[:3, 3] = step, first.position
    grid = Grid((count, first.pixels.rows, first.pixels.columns), affine).checked("ImagePositionPatient")
    cosine = float(np.clip(abs(step @ grid.normal) / np.linalg.norm(step), 0, 1))
    return grid, float(np.degrees(np.arccos(cosine)))
