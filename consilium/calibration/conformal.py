"""Conformal: prediction sets and probability intervals, from studies that the probabilities were not fitted on.

A set holds every answer that cannot be ruled out: ``present`` unless the study's log-odds are lower than those of all
but a tenth (at coverage .9) of the studies with the finding, ``absent`` likewise. Taken class by class (Mondrian;
Vovk, Gammerman and Shafer, Algorithmic Learning in a Random World, 2005, section 4.5), the sets hold the truth for 90 %
of the positives *and* for 90 % of the negatives, however rare the finding. The interval is Venn-Abers' (p0, p1) of the
same studies.

Each modality subset has its own group of held-out studies, so that neither the strong nor the weak modalities pay for
the others. Groups are formed for each finding by the counts in the fitting part, without a look at the held-out one:

- ``own``: studies that came with exactly these modalities, where there are enough of both classes;
- ``pooled``: the rarer subsets together, each study with the modalities that it came with;
- ``simulated``: of a subset that no study came with, all that have more, with these modalities alone. This is the only
  kind that supposes that absence is uninformative.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from consilium.calibration.venn_abers import NOTHING_KNOWN, Bounds, fit_bounds
from consilium.domain.errors import InputError

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

OWN, POOLED, SIMULATED = KINDS = ("own", "pooled", "simulated")

_ENOUGH = 20  # held-out studies of each class that a subset needs to be on its own


@dataclass(frozen=True, slots=True)
class HeldOutGroup:
    """The held-out studies that set the limits of one finding in some modality subsets.

    Attributes
    ----------
    subsets : tuple of str
    kind : str
        ``own``, ``pooled`` or ``simulated``.
    absent, present : int
        How many of each class.
    highest_absent, lowest_present : float or None
        Log-odds above which ``absent``, below which ``present`` is ruled out; None: too few studies to rule it out.
    bounds : Bounds
        Venn-Abers' p0 and p1 by log-odds.
    """

    subsets: tuple[str, ...]
    kind: str
    absent: int
    present: int
    highest_absent: float | None
    lowest_present: float | None
    bounds: Bounds

    def to_json(self) -> dict[str, Any]:
        plain = {name: getattr(self, name) for name in self.__slots__[1:-1]}
        return {"subsets": list(self.subsets), **plain, "bounds": self.bounds.to_json()}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> HeldOutGroup:
        plain = {name: data[name] for name in cls.__slots__[1:-1]}
        return cls(subsets=tuple(data["subsets"]), **plain, bounds=Bounds.from_json(data["bounds"]))

    def require_sound(self, name: str) -> None:
        """`InputError` unless the limits are usable; `name` is how the error calls it."""
        for field in ("highest_absent", "lowest_present"):
            limit = getattr(self, field)
            if limit is not None and not math.isfinite(limit):
                raise InputError(f"{name}.{field}", limit, "must be finite or null")
        if self.kind not in KINDS:
            raise InputError(f"{name}.kind", self.kind, f"must be one of {', '.join(KINDS)}")
        self.bounds.require_sound(f"{name}.bounds")


NO_GROUP = HeldOutGroup((), SIMULATED, 0, 0, None, None, NOTHING_KNOWN)
"""Rules nothing out: the group of a subset that no study of the calibration split had."""


@dataclass(frozen=True, slots=True)
class Conformal:
    """The held-out groups of every finding and modality subset, and the sets and intervals that follow from them.

    Attributes
    ----------
    coverage : float
        Share of the studies of each class whose set holds the truth.
    groups : tuple of tuple of HeldOutGroup, [F]
        No two of a finding share a subset.
    """

    coverage: float
    groups: tuple[tuple[HeldOutGroup, ...], ...]

    def of(self, finding: int, subset: str) -> HeldOutGroup:
        """The group of `finding` where the modalities of `subset` are present."""
        return next((group for group in self.groups[finding] if subset in group.subsets), NO_GROUP)

    def ruled_in(self, log_odds: Floats, subset: str) -> Bools:
        """Which of (absent, present) each finding by itself cannot rule out, [..., F, 2]; NaN rules nothing out."""
        answers = np.ones((*log_odds.shape, 2), bool)
        for f in range(len(self.groups)):
            group = self.of(f, subset)
            if group.highest_absent is not None:
                answers[..., f, 0] = ~(log_odds[..., f] > group.highest_absent)
            if group.lowest_present is not None:
                answers[..., f, 1] = ~(log_odds[..., f] < group.lowest_present)
        return answers

    def bounds(self, log_odds: Floats, subset: str) -> Floats:
        """Venn-Abers' (p0, p1), [..., F, 2]; NaN stays NaN."""
        parts = [np.stack(self.of(f, subset).bounds(log_odds[..., f]), axis=-1) for f in range(len(self.groups))]
        return np.stack(parts, axis=-2)

    def to_json(self) -> dict[str, Any]:
        return {"coverage": self.coverage, "groups": [[one.to_json() for one in finding] for finding in self.groups]}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Conformal:
        groups = tuple(tuple(HeldOutGroup.from_json(one) for one in finding) for finding in data["groups"])
        return cls(data["coverage"], groups)

    def require_sound(self, name: str, findings: int) -> None:
        """`InputError` unless there are groups for `findings` findings; `name` is how the error calls this."""
        if len(self.groups) != findings or not 0 < self.coverage < 1:
            raise InputError(name, len(self.groups), f"must be of {findings} findings, with a coverage between 0 and 1")
        for groups in self.groups:
            for one in groups:
                one.require_sound(name)


def fit_conformal(
    labels: Floats, log_odds: Mapping[str, Floats], came_with: npt.NDArray[np.str_], held_out: Bools, coverage: float
) -> Conformal:
    """Groups of held-out studies of the calibration split.

    Parameters
    ----------
    labels : float [N, F]
        Of the whole calibration split; 1 present, 0 absent, NaN unknown.
    log_odds : mapping of subset_key to float [N, F]
        Calibrated; rows of NaN where the study lacks a modality of the subset.
    came_with : str [N]
        Key of the subset that each study has.
    held_out : bool [N]
        The studies that the calibration was not fitted on. The counts of the others decide which subsets share a group.
    coverage : float
    """
    by_finding = []
    for f, truth in enumerate(labels.T):
        scores = {subset: values[:, f] for subset, values in log_odds.items()}
        groups = []
        for subsets, kind in _grouped(list(scores), truth, came_with, held_out):
            rows = []
            for subset in subsets:
                chosen = held_out & ~np.isnan(truth) & ~np.isnan(scores[subset])
                if kind != SIMULATED:
                    chosen &= came_with == subset
                rows.append((scores[subset][chosen], truth[chosen] == 1))
            together, positive = (np.concatenate(part) for part in zip(*rows, strict=True))
            groups.append(_group(subsets, kind, together, positive, coverage))
        by_finding.append(tuple(groups))
    return Conformal(coverage, tuple(by_finding))


def quantile_rank(studies: int, coverage: float) -> int:
    """Which of `studies` scores in order a new one may not exceed; above `studies` where they are too few."""
    # Without the tolerance .9 of 9 + 1 may ask for the tenth in floating point.
    return math.ceil((studies + 1) * coverage - 1e-9)


def _grouped(
    subsets: list[str], truth: Floats, came_with: npt.NDArray[np.str_], held_out: Bools
) -> list[tuple[tuple[str, ...], str]]:
    """Which subsets share a group, and its kind."""
    fitting = ~held_out & ~np.isnan(truth)
    ratio = held_out.sum() / max((~held_out).sum(), 1)
    own, pooled, groups = [], [], []
    for subset in subsets:
        here = truth[fitting & (came_with == subset)]
        if not len(here):
            groups.append(((subset,), SIMULATED))
        elif min((here == 1).sum(), (here == 0).sum()) * ratio >= _ENOUGH:
            own.append(((subset,), OWN))
        else:
            pooled.append(subset)
    return own + ([(tuple(pooled), POOLED)] if pooled else []) + groups


def _group(subsets: tuple[str, ...], kind: str, scores: Floats, positive: Bools, coverage: float) -> HeldOutGroup:
    absent, present = np.sort(scores[~positive]), np.sort(scores[positive])
    ranks = [quantile_rank(len(part), coverage) for part in (absent, present)]
    return HeldOutGroup(
        subsets=subsets,
        kind=kind,
        absent=len(absent),
        present=len(present),
        highest_absent=float(absent[ranks[0] - 1]) if ranks[0] <= len(absent) else None,
        lowest_present=float(present[-ranks[1]]) if ranks[1] <= len(present) else None,
        bounds=fit_bounds(scores, positive),
    )
