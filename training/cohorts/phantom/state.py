"""State: which findings a phantom patient has, and which hidden confounders beside them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from consilium.domain.errors import InputError
from consilium.domain.findings import Finding, FindingSet
from consilium.domain.study import Sex
from training.cohorts.phantom.tables import table

FINDINGS: tuple[str, ...] = tuple(table("states")["findings"])
"""Of every design, and in each the first members of its states."""
CONFOUNDERS: tuple[str, ...] = tuple(table("states")["confounders"])
MEMBERS: tuple[str, ...] = FINDINGS + CONFOUNDERS
"""What a state of the ordinary design consists of; member k is bit k of the state's index."""


def presence(members: int) -> npt.NDArray[np.bool_]:
    """Whether member k is present in state i of so many members, bool [S, M]."""
    return (np.arange(2**members)[:, None] >> np.arange(members)[None, :] & 1).astype(bool)


PRESENT: npt.NDArray[np.bool_] = presence(len(MEMBERS))
"""Of the ordinary design's states, bool [S, M]."""

SEXES: tuple[Sex, ...] = (Sex.FEMALE, Sex.MALE)


def phantom_findings() -> FindingSet:
    """The four findings with their SNOMED CT codes."""
    stored = table("states")
    return FindingSet(tuple(Finding(name, stored["displays"][name], stored["codes"][name]) for name in FINDINGS))


@dataclass(frozen=True, slots=True)
class State:
    """One drawn state: what the labels say, and what they hide."""

    present: tuple[bool, ...]
    """One flag a member, the findings first."""
    age: int
    sex: Sex

    @property
    def index(self) -> int:
        """Row in `presence`."""
        return sum(1 << k for k, flag in enumerate(self.present) if flag)

    @property
    def labels(self) -> dict[str, bool]:
        """Each finding, present or absent."""
        return dict(zip(FINDINGS, self.present, strict=False))


@dataclass(frozen=True, slots=True, eq=False)
class StateTable:
    """The joint distribution of state, age band and sex.

    Attributes
    ----------
    members : tuple of str
        Findings, confounders and contexts; member k is bit k of a state's index.
    confounders : tuple of str
        Those that look like a finding and are none.
    edges : int [B + 1]
        Age bands: band b holds the ages edges[b] <= age < edges[b + 1], years.
    demographics : float64 [B, 2]
        P(age band, sex), sexes in the order of `SEXES`.
    states : float64 [B, 2, S]
        P(state | age band, sex).
    """

    members: tuple[str, ...]
    confounders: tuple[str, ...]
    edges: npt.NDArray[np.int64]
    demographics: npt.NDArray[np.float64]
    states: npt.NDArray[np.float64]

    @property
    def present(self) -> npt.NDArray[np.bool_]:
        """Whether member k is present in state i, bool [S, M]."""
        return presence(len(self.members))

    @property
    def prior(self) -> npt.NDArray[np.float64]:
        """P(state), age and sex integrated over, float64 [S]."""
        return np.einsum("bx,bxs->s", self.demographics, self.states)

    def band(self, age: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """Index of the age band of each age in years."""
        return np.clip(np.searchsorted(self.edges, age, side="right") - 1, 0, len(self.edges) - 2)

    def given(self, age: npt.ArrayLike, sex: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """P(state | age, sex), float64 [N, S]; `sex` holds indices into `SEXES`."""
        return self.states[self.band(age), np.asarray(sex)]

    def draw(self, rng: np.random.Generator) -> State:
        """One patient's state, age (whole years, uniform within the band) and sex."""
        cell = int(rng.choice(self.demographics.size, p=self.demographics.ravel()))
        band, sex = divmod(cell, len(SEXES))
        age = int(rng.integers(self.edges[band], self.edges[band + 1]))
        index = int(rng.choice(2 ** len(self.members), p=self.states[band, sex]))
        return State(tuple(bool(index >> k & 1) for k in range(len(self.members))), age, SEXES[sex])


def _odds(probability: float) -> float:
    return probability / (1 - probability)


def _chance(
    row: Mapping[str, Any], there: Mapping[str, npt.NDArray[np.bool_]], band: int, male: bool, factor: float
) -> npt.NDArray[np.float64]:
    """P(member of `row` present | its parents as in each state), float64 [S]; `there`: each member in each state."""
    odds = np.full(len(there[row["member"]]), _odds(row["probability"][band]) * factor)
    for parent, ratio in row["odds_ratios"].items():
        if parent == "male":
            odds *= ratio if male else 1.0
        else:
            odds *= np.where(there[parent], ratio, 1.0)
    return odds / (1 + odds)


def load_states(prevalence_odds: Mapping[str, float] | None = None, name: str = "states") -> StateTable:
    """The stored table `name`, expanded.

    Parameters
    ----------
    prevalence_odds : mapping of member to odds ratio, optional
        Shifts the prevalence: the odds of each named member are multiplied in every age band and sex.

    Raises
    ------
    InputError
        A name that is no member of the state, or an odds ratio that is not positive.
    """
    stored = table(name)
    members = (*stored["findings"], *stored["confounders"], *stored.get("contexts", ()))
    factors = dict(prevalence_odds or {})
    for member, factor in factors.items():
        if member not in members:
            raise InputError("prevalence_odds", member, f"must be one of {', '.join(members)}")
        if not 0 < factor < float("inf"):
            raise InputError(f"prevalence_odds[{member}]", factor, "must be a positive number")
    there = dict(zip(members, presence(len(members)).T, strict=True))
    bands = stored["age_bands"]
    states = np.ones((len(bands), len(SEXES), 2 ** len(members)))
    for band in range(len(bands)):
        for sex in range(len(SEXES)):
            for row in stored["draws"]:
                chance = _chance(row, there, band, SEXES[sex] is Sex.MALE, factors.get(row["member"], 1.0))
                states[band, sex] *= np.where(there[row["member"]], chance, 1 - chance)
    shares = np.array([band["share"] for band in bands])
    by_sex = np.array([stored["sexes"][sex.value] for sex in SEXES])
    return StateTable(
        members=members,
        confounders=tuple(stored["confounders"]),
        edges=np.array([band["from"] for band in bands] + [bands[-1]["to"]]),
        demographics=np.outer(shares, by_sex) / (shares.sum() * by_sex.sum()),
        states=states,
    )
