"""A modality of the phantom: how its evidence is drawn, rendered, written, and read by the oracle.

One class each, found by `training.cohorts.phantom.renderers`. A renderer sees evidence and nuisance, never the state.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from training.cohorts.phantom.state import MEMBERS, PRESENT, State, StateTable

if TYPE_CHECKING:
    from consilium.preprocessing.collate import Preprocessing
    from training.cohorts.phantom.record import Design, Drawn, Shift

Floats = npt.NDArray[np.float64]
Row = dict[str, object]


@dataclass(frozen=True, slots=True, eq=False)
class Target:
    """One study on its way to the files of a cohort.

    Attributes
    ----------
    root : Path
        Folder of the cohort.
    probabilities : float64 [F]
        The best possible answer from the built-in modalities that the record has: what a report concludes.
    """

    root: Path
    design: Design
    study: Drawn
    probabilities: Floats


@dataclass(frozen=True, slots=True)
class Written:
    """What one modality of one study adds to the tables.

    Attributes
    ----------
    columns, closing_columns : dict of column to cell
        Of the study's row in ``studies.csv``; the closing ones stand behind all modalities' columns.
    rows : dict of path to rows
        Of other tables, by path below the cohort's folder: ``observations.csv``, ``truth/spans.csv``.
    """

    columns: Row
    closing_columns: Row = field(default_factory=dict)
    rows: Mapping[str, list[Row]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """A made-up study that a model is to be asked with, as a caller would send it.

    Attributes
    ----------
    preprocessing : Preprocessing
        What the model reads with.
    repetition : int
        How many studies with the same modalities come before this one.
    """

    preprocessing: Preprocessing
    design: Design
    study: Drawn
    repetition: int


@dataclass(frozen=True, slots=True)
class Sent:
    """What one modality adds to a request.

    Attributes
    ----------
    fields : dict of field to value
        Of the request's JSON.
    files : dict of field to bytes of files
    """

    fields: Mapping[str, object] = field(default_factory=dict)
    files: Mapping[str, tuple[bytes, ...]] = field(default_factory=dict)


class PhantomModality(ABC):
    """One modality of the phantom.

    Attributes
    ----------
    name : str
        Of the modality.
    missing : float
        Share of the studies that lack it, completely at random.
    demographics : bool
        Whether the record gives age and sex where it has this modality.
    read_as_written : bool
        The oracle reads what was rendered, which is less exact than the evidence as drawn.
    truth : str
        Reference of its `training.evaluation.faithfulness.phantom_truth.ModalityTruth`; empty: what its evidence is in
        a record is not known.
    tables : mapping of path to columns
        Tables beside ``studies.csv`` that it adds rows to.
    folders : tuple of str
        Folders that it writes files to, below the cohort's.
    """

    name: ClassVar[str]
    missing: ClassVar[float] = 0.1
    demographics: ClassVar[bool] = False
    read_as_written: ClassVar[bool] = False
    truth: ClassVar[str] = ""
    tables: ClassVar[Mapping[str, tuple[str, ...]]] = MappingProxyType({})
    folders: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def shifted(cls, shift: Shift) -> PhantomModality:
        """The modality as a cohort of this `shift` has it."""
        del shift
        return cls()

    @abstractmethod
    def draw(self, state: State, rng: np.random.Generator) -> Any:
        """Evidence of one study, from p(evidence | state)."""

    @abstractmethod
    def render(self, design: Design, study: Drawn) -> Any:
        """What the record holds, from ``study.evidence.parts[name]`` and nuisance of the study's own streams."""

    @abstractmethod
    def write(self, target: Target, rendered: Any) -> Written:
        """Write the files of what was `rendered`; None where the record lacks the modality: its cells are empty."""

    @abstractmethod
    def read(self, studies: Sequence[Drawn], rendered: Sequence[Any]) -> Any:
        """What the oracle reads of N records: evidence, as exactly as the record carries it; None was not rendered."""

    @abstractmethod
    def log_likelihood(self, reading: Any, states: StateTable) -> Floats:
        """Log p(reading | state) up to a constant for each record, float64 [N, S]."""

    @abstractmethod
    def request(self, asked: Asked) -> Sent:
        """The modality's part of a made-up request to a model, which fits what that model reads."""

    @abstractmethod
    def describe(self, evidence: Any) -> Row:
        """The study's cells of ``truth/evidence.csv``, each column named ``<modality>:<channel>``."""


class GaussianPhantom(PhantomModality):
    """A modality whose record carries its evidence: one unit Gaussian a channel, independent given the state.

    Attributes
    ----------
    shifts : mapping of channel to mapping of member to float
        What the presence of a finding or confounder adds to the mean of a channel.
    """

    shifts: ClassVar[Mapping[str, Mapping[str, float]]]

    @cached_property
    def means(self) -> Floats:
        """Mean of each channel in each state, float64 [S, C]."""
        return channel_means(self.shifts)

    def draw(self, state: State, rng: np.random.Generator) -> Floats:
        return rng.normal(self.means[state.index])

    def read(self, studies: Sequence[Drawn], rendered: Sequence[Any]) -> Floats:
        del rendered
        return np.stack([study.evidence.parts[self.name] for study in studies])

    def log_likelihood(self, reading: Floats, states: StateTable) -> Floats:
        del states
        return summed(reading, self.means) - 0.5 * (self.means**2).sum(axis=1)

    def describe(self, evidence: Floats) -> Row:
        return {f"{self.name}:{channel}": float(x) for channel, x in zip(self.shifts, evidence, strict=True)}


def channel_means(shifts: Mapping[str, Mapping[str, float]]) -> Floats:
    """Mean of each channel in each state, float64 [S, C]."""
    by_member = np.zeros((len(MEMBERS), len(shifts)))
    for channel, row in enumerate(shifts.values()):
        for member, shift in row.items():
            by_member[MEMBERS.index(member), channel] = shift
    return PRESENT @ by_member


def summed(x: Floats, weights: Floats) -> Floats:
    """``x @ weights.T``, channel by channel: how BLAS rounds depends on the machine's threads, and bytes must not."""
    total = np.zeros((len(x), len(weights)))
    for channel in range(x.shape[1]):
        total += x[:, channel, None] * weights[None, :, channel]
    return total


def probability_below(threshold: float, mean: Floats) -> Floats:
    """P(a unit Gaussian around each mean lies below the threshold)."""
    return np.array([0.5 * math.erfc((m - threshold) / math.sqrt(2)) for m in mean.ravel()]).reshape(mean.shape)
