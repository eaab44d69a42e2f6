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

from consilium.domain.errors import InputError
from training.cohorts.phantom.state import MEMBERS, State, StateTable, presence

if TYPE_CHECKING:
    from consilium.preprocessing.collate import Preprocessing
    from training.cohorts.phantom.oracle import PhantomOracle
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

    def __init__(self, members: tuple[str, ...] = MEMBERS) -> None:
        self.members = members
        """What the states of the cohort's design consist of."""

    @classmethod
    def shifted(cls, shift: Shift, members: tuple[str, ...]) -> PhantomModality:
        """The modality as a cohort of this `shift` has it, whose states consist of `members`."""
        del shift
        return cls(members)

    @classmethod
    def prompts(cls) -> Mapping[str, dict[str, list[str]]]:
        """Sentences of the site's reports of it, by finding and by whether they say that it is ``present``."""
        return {}

    @classmethod
    def shows_evidence(cls, section: Any) -> bool:
        """Whether what a model reads by `section` of the recipe shows the evidence of this modality."""
        del section
        return True

    @classmethod
    def repeats(
        cls, oracle: PhantomOracle, section: Any, phantoms: Mapping[str, type[PhantomModality]]
    ) -> Mapping[str, npt.NDArray[np.int64]]:
        """Evidence of other modalities that what a model reads by `section` repeats, as codes [N] by modality.

        A record of this modality and one of another are of one study only where their codes are the same.
        """
        del oracle, section, phantoms
        return {}

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
    shifts : mapping of channel to mapping of term to float
        What the presence of a finding or confounder adds to the mean of a channel; see `channel_means`.
    """

    shifts: ClassVar[Mapping[str, Mapping[str, float]]]

    @cached_property
    def means(self) -> Floats:
        """Mean of each channel in each state, float64 [S, C]."""
        return channel_means(self.shifts, self.members)

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


def channel_means(shifts: Mapping[str, Mapping[str, float]], members: tuple[str, ...] = MEMBERS) -> Floats:
    """Mean of each channel in each state of these `members`, float64 [S, C].

    Parameters
    ----------
    shifts : mapping of channel to mapping of term to float
        What each term adds where it holds. A term is a member, which must be present, or several with spaces between
        them, each of which must be present or, behind an exclamation mark, absent: ``pleural_effusion !left``.

    Raises
    ------
    InputError
        For a term of something that is no member.
    """
    present = presence(len(members))
    terms = [*members, *dict.fromkeys(term for row in shifts.values() for term in row if term not in members)]
    holds = np.stack([_holds(term, present, members) for term in terms], axis=1)
    by_term = np.zeros((len(terms), len(shifts)))
    for channel, row in enumerate(shifts.values()):
        for term, shift in row.items():
            by_term[terms.index(term), channel] = shift
    return holds @ by_term


def _holds(term: str, present: npt.NDArray[np.bool_], members: tuple[str, ...]) -> npt.NDArray[np.bool_]:
    """In which states the `term` holds, bool [S]."""
    holds = np.ones(len(present), bool)
    for word in term.split():
        member = word.removeprefix("!")
        if member not in members:
            raise InputError("evidence", member, f"must be one of the design's members: {', '.join(members)}")
        holds &= present[:, members.index(member)] != word.startswith("!")
    return holds


def summed(x: Floats, weights: Floats) -> Floats:
    """``x @ weights.T``, channel by channel: how BLAS rounds depends on the machine's threads, and bytes must not."""
    total = np.zeros((len(x), len(weights)))
    for channel in range(x.shape[1]):
        total += x[:, channel, None] * weights[None, :, channel]
    return total


def probability_below(threshold: float, mean: Floats) -> Floats:
    """P(a unit Gaussian around each mean lies below the threshold)."""
    return np.array([0.5 * math.erfc((m - threshold) / math.sqrt(2)) for m in mean.ravel()]).reshape(mean.shape)
