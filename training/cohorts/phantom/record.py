"""Record: one phantom study, drawn and rendered, as the rows and files it becomes."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from consilium.domain.errors import InputError
from training.cohorts.phantom.evidence import Evidence, EvidenceModel, load_evidence
from training.cohorts.phantom.outcomes import STREAM, Fate, draw_fate
from training.cohorts.phantom.phantom_modality import Written
from training.cohorts.phantom.renderers import DEFAULT_MODALITIES
from training.cohorts.phantom.schemes import ORDINARY, find_scheme
from training.cohorts.phantom.state import FINDINGS, State, StateTable
from training.cohorts.phantom.tables import table

STREAMS = ("state", "evidence", "record", "image", "note", "report", "values")
"""Streams that are known by their position; every other one is known by its name alone."""
_FILE = "truth/design.yaml"


@dataclass(frozen=True, slots=True)
class Shift:
    """How a cohort departs from the stored tables; its oracle is computed for what it is.

    Attributes
    ----------
    prevalence_odds : mapping of member to odds ratio
    missing_value, missing_modality : mappings that replace stored rates
    unseen_device : bool
        Every image comes from a device that no site has.
    held_out_phrases : bool
        Notes are written in the held-out phrases.
    """

    prevalence_odds: Mapping[str, float] = field(default_factory=dict)
    missing_value: Mapping[str, float] = field(default_factory=dict)
    missing_modality: Mapping[str, float] = field(default_factory=dict)
    unseen_device: bool = False
    held_out_phrases: bool = False


@dataclass(frozen=True, slots=True)
class Design:
    """What a phantom cohort is made from; with a study's index it determines that study entirely.

    Attributes
    ----------
    shortcut : float or None
        Strength 0 … 1 with which the site (its marker, device and headings) follows the first finding.
    studies_per_patient : int
        Studies i k … i k + k - 1 are of patient i: one state, and evidence of each study's own.
    scheme : str
        One of `training.cohorts.phantom.schemes.SCHEMES`.
    outcomes : bool
        With targets beside the findings: see `training.cohorts.phantom.outcomes`.
    """

    seed: int
    size: int
    shortcut: float | None = None
    shift: Shift = field(default_factory=Shift)
    studies_per_patient: int = 1
    modalities: tuple[str, ...] = DEFAULT_MODALITIES
    scheme: str = ORDINARY.name
    outcomes: bool = False

    @classmethod
    def load(cls, root: Path) -> Design | None:
        """What the phantom cohort in `root` was made from; None where that is not known."""
        file = root / _FILE
        if not file.is_file():
            return None
        plan: dict[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8"))
        del plan["studies"]
        return cls(**plan | {"shift": Shift(**plan["shift"]), "modalities": tuple(plan["modalities"])})

    def save(self, root: Path, studies: int) -> None:
        """Store it with the cohort of so many `studies` in `root`."""
        plan = {**asdict(self), "studies": studies}
        if not self.outcomes:
            del plan["outcomes"]  # a folder without them is what it was before there were any
        plan["shift"] = {key: dict(v) if isinstance(v, Mapping) else v for key, v in plan["shift"].items()}
        (root / _FILE).write_text(yaml.safe_dump(plan, sort_keys=False), encoding="utf-8")

    def check(self) -> None:
        """Raise `InputError` where a figure is out of range."""
        if not 0 <= self.seed < 2**63:
            raise InputError("seed", self.seed, "must lie between 0 and 2**63 - 1")
        if not 64 <= self.size <= 4096:
            raise InputError("size", self.size, "must lie between 64 and 4096 pixels")
        if self.shortcut is not None and not 0 <= self.shortcut <= 1:
            raise InputError("shortcut", self.shortcut, "must lie between 0 and 1")
        if not 1 <= self.studies_per_patient <= 100:
            raise InputError("studies_per_patient", self.studies_per_patient, "must lie between 1 and 100")
        self.states()
        self.evidence()

    def states(self) -> StateTable:
        return find_scheme(self.scheme).states(self.shift.prevalence_odds)

    def evidence(self) -> EvidenceModel:
        return load_evidence(self.modalities, self.shift, find_scheme(self.scheme))

    @property
    def device(self) -> dict[str, Any] | None:
        """The device of every image, None: the sites' own."""
        return dict(table("sites")["unseen_device"]) if self.shift.unseen_device else None


def stream(design: Design, index: int, name: str) -> np.random.Generator:
    """The generator of one stream of one study: independent of all others, whatever order they are made in."""
    if name in STREAMS:
        key: tuple[int, ...] = (STREAMS.index(name),)
    else:
        key = tuple(np.frombuffer(hashlib.sha256(name.encode()).digest(), "<u4").tolist())
    return np.random.default_rng(np.random.SeedSequence(design.seed, spawn_key=(index, *key)))


@dataclass(frozen=True, slots=True, eq=False)
class Drawn:
    """One study before anything is rendered: all that the truth is made of."""

    index: int
    patient: int
    state: State
    evidence: Evidence
    site: str
    reference_time: datetime
    note_time: datetime
    demographics: bool
    """The record gives age and sex."""
    fate: Fate | None = None
    """Where the design has outcomes."""

    @property
    def study_id(self) -> str:
        return f"S{self.index:06d}"

    @property
    def patient_id(self) -> str:
        return f"P{self.patient:06d}"

    def has(self, modality: str) -> bool:
        return modality in self.evidence.modalities


def _site(state: State, shortcut: float | None, rng: np.random.Generator) -> str:
    sites = table("sites")["sites"]
    shares = np.array([row["share"] for row in sites])
    follows, draw = rng.random(2)
    if shortcut is not None and follows < shortcut:
        positive = state.labels[FINDINGS[0]]
        shares = np.where((np.arange(len(sites)) == len(sites) - 1) == positive, shares, 0.0)
    chosen = np.searchsorted(np.cumsum(shares)[:-1] / shares.sum(), draw, side="right")
    return str(sites[int(chosen)]["name"])


def draw_study(design: Design, index: int, states: StateTable, model: EvidenceModel) -> Drawn:
    """State, evidence, site and times of study `index`."""
    patient = index // design.studies_per_patient
    state = states.draw(stream(design, patient * design.studies_per_patient, "state"))
    evidence = model.draw(state, partial(stream, design, index))
    rng = stream(design, index, "record")
    site = _site(state, design.shortcut, rng)
    reference = datetime(2021, 1, 1) + timedelta(minutes=int(rng.integers(0, 4 * 365 * 24 * 60)))
    written = reference - timedelta(minutes=int(rng.integers(10, 300)))
    known = any(model.phantoms[name].demographics for name in evidence.modalities)
    fate = draw_fate(states.members, state.present, stream(design, index, STREAM)) if design.outcomes else None
    return Drawn(index, patient, state, evidence, site, reference, written, known, fate)


@dataclass(frozen=True, slots=True, eq=False)
class Rendered:
    """What a model may see of one study.

    Attributes
    ----------
    parts : mapping of modality to what its `PhantomModality.render` gave
        Of the modalities that the record has.
    """

    parts: Mapping[str, Any]


def render_study(design: Design, model: EvidenceModel, drawn: Drawn) -> Rendered:
    """Render what the record has, from evidence and nuisance alone."""
    return Rendered({name: model.phantoms[name].render(design, drawn) for name in model.modalities if drawn.has(name)})


def study_row(drawn: Drawn, written: Sequence[Written]) -> dict[str, object]:
    """The study's row of ``studies.csv``, without its split."""
    row: dict[str, object] = {
        "study": drawn.study_id,
        "patient": drawn.patient_id,
        "age": drawn.state.age if drawn.demographics else None,
        "sex": drawn.state.sex.value if drawn.demographics else "",
        "reference_time": drawn.reference_time.isoformat(),
    }
    for part in written:
        row |= part.columns
    for part in written:
        row |= part.closing_columns
    row |= {f"label:{name}": int(present) for name, present in drawn.state.labels.items()}
    row |= {} if drawn.fate is None else drawn.fate.columns
    return row | {"source": drawn.site, "date": drawn.reference_time.date().isoformat()}


def state_row(drawn: Drawn, members: Sequence[str]) -> dict[str, object]:
    """Every one of the state's `members`, age and sex, also of a study whose record does not give them; truth."""
    present = dict(zip(members, (int(flag) for flag in drawn.state.present), strict=True))
    row: dict[str, object] = {"study": drawn.study_id, **present}
    row |= {"age": drawn.state.age, "sex": drawn.state.sex.value}
    return row | ({} if drawn.fate is None else drawn.fate.truth)
