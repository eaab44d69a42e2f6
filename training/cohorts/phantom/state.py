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
CONFOUNDERS: tuple[str, ...] = tuple(table("states")["confounders"])
MEMBERS: tuple[str, ...] = FINDINGS + CONFOUNDERS
"""What a state consists of; member k is bit k of the state's index."""

PRESENT: npt.NDArray[np.bool_] = (np.arange(2 ** len(MEMBERS))[:, None] >> np.arange(len(MEMBERS))[None, :] & 1).astype(
    bool
)
"""Whether member k is present in state i, bool [S, M]."""

SEXES: tuple[Sex, ...] = (Sex.FEMALE, Sex.MALE)


def phantom_findings() -> FindingSet:
    """The four findings with their SNOMED CT codes."""
    stored = table("states")
    return FindingSet(tuple(Finding(name, stored["displays"][name], stored["codes"][name]) for name in FINDINGS))


@dataclass(frozen=True, slots=True)
class State:
    """One drawn state: what the labels say, and what they hide."""

    present: tuple[bool, ...]
    """One flag a member, in the order of `MEMBERS`."""
    age: int
    sex: Sex

    @property
    def index(self) -> int:
        """Row in `PRESENT`."""
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
    edges : int [B + 1]
        Age bands: band b holds the ages edges[b] <= age < edges[b + 1], years.
    demographics : float64 [B, 2]
        P(age band, sex), sexes in the order of `SEXES`.
    states : float64 [B, 2, S]
        P(state | age band, sex).
    """

    edges: npt.NDArray[np.int64]
    demographics: npt.NDArray[np.float64]
    states: npt.NDArray[np.float64]

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
        index = int(rng.choice(len(PRESENT), p=self.states[band, sex]))
        return State(tuple(bool(flag) for flag in PRESENT[index]), age, SEXES[sex])


def _odds(probability: float) -> float:
    return probability / (1 - probability)


def _presence(row: Mapping[str, Any], band: int, male: bool, factor: float) -> npt.NDArray[np.float64]:
    """P(member of `row` present | its parents as in each state), float64 [S]."""
    odds = np.full(len(PRESENT), _odds(row["probability"][band]) * factor)
    for parent, ratio in row["odds_ratios"].items():
        if parent == "male":
            odds *= ratio if male else 1.0
        else:
            odds *= np.where(PRESENT[:, MEMBERS.index(parent)], ratio, 1.0)
    return odds / (1 + odds)


def load_states(prevalence_odds: Mapping[str, float] | None = None) -> StateTable:
    """The stored table, expanded.

    Parameters
    ----------
    prevalence_odds : mapping of member to odds ratio, optional
        Shifts the prevalence: the odds of each named member are multiplied in every age band and sex.

    Raises
    ------
    InputError
        A name that is no member of the state, or an odds ratio that is not positive.
    """
    factors = dict(prevalence_odds or {})
    for name, factor in factors.items():
        if name not in MEMBERS:
            raise InputError("prevalence_odds", name, f"must be one of {', '.join(MEMBERS)}")
        if not 0 < factor < float("inf"):
            raise InputError(f"prevalence_odds[{name}]", factor, "must be a positive number")
    stored = table("states")
    bands = stored["age_bands"]
    states = np.ones((len(bands), len(SEXES), len(PRESENT)))
    for band in range(len(bands)):
        for sex in range(len(SEXES)):
            for row in stored["draws"]:
                name = row["member"]
                present = _presence(row, band, SEXES[sex] is Sex.MALE, factors.get(name, 1.0))
                states[band, sex] *= np.where(PRESENT[:, MEMBERS.index(name)], present, 1 - present)
    shares = np.array([band["share"] for band in bands])
    by_sex = np.array([stored["sexes"][sex.value] for sex in SEXES])
    return StateTable(
        edges=np.array([band["from"] for band in bands] + [bands[-1]["to"]]),
        demographics=np.outer(shares, by_sex) / (shares.sum() * by_sex.sum()),
        states=states,
    )
