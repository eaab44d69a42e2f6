"""Record: one phantom study, drawn and rendered, as the rows and files it becomes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt

from consilium.domain.errors import InputError
from consilium.domain.study import NoteKind
from consilium.modalities.registry import modality_names
from training.cohorts.phantom.evidence import VARIABLE_CHANNELS, Evidence, EvidenceModel, load_evidence
from training.cohorts.phantom.image.radiograph import Radiograph, render_radiograph
from training.cohorts.phantom.observations.values import Measurement, render_values
from training.cohorts.phantom.oracle import Witnesses
from training.cohorts.phantom.state import FINDINGS, SEXES, State, StateTable, load_states
from training.cohorts.phantom.tables import table
from training.cohorts.phantom.text.note import WrittenNote, render_note

STREAMS = ("state", "evidence", "record", "image", "note", "report", "values")


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
    """

    seed: int
    size: int
    shortcut: float | None = None
    shift: Shift = field(default_factory=Shift)
    studies_per_patient: int = 1

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
        return load_states(self.shift.prevalence_odds)

    def evidence(self) -> EvidenceModel:
        return load_evidence(self.shift.missing_value, self.shift.missing_modality)

    @property
    def device(self) -> dict[str, Any] | None:
        """The device of every image, None: the sites' own."""
        return dict(table("sites")["unseen_device"]) if self.shift.unseen_device else None


def stream(design: Design, index: int, name: str) -> np.random.Generator:
    """The generator of one stream of one study: independent of all others, whatever order they are made in."""
    return np.random.default_rng(np.random.SeedSequence(design.seed, spawn_key=(index, STREAMS.index(name))))


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
    evidence = model.draw(state, stream(design, index, "evidence"))
    rng = stream(design, index, "record")
    site = _site(state, design.shortcut, rng)
    reference = datetime(2021, 1, 1) + timedelta(minutes=int(rng.integers(0, 4 * 365 * 24 * 60)))
    written = reference - timedelta(minutes=int(rng.integers(10, 300)))
    return Drawn(index, patient, state, evidence, site, reference, written)


@dataclass(frozen=True, slots=True, eq=False)
class Rendered:
    """What a model may see of one study; None where the modality is missing."""

    radiograph: Radiograph | None
    note: WrittenNote | None
    measurements: list[Measurement]


def render_study(design: Design, drawn: Drawn) -> Rendered:
    """Render what the record has, from evidence and nuisance alone."""
    e, has = drawn.evidence, drawn.has
    image_rng, note_rng, values_rng = (stream(design, drawn.index, name) for name in ("image", "note", "values"))
    return Rendered(
        radiograph=render_radiograph(e.image, image_rng, design.size, drawn.site, device=design.device)
        if has("image")
        else None,
        note=render_note(e.text, note_rng, drawn.site, held_out_phrases=design.shift.held_out_phrases)
        if has("text")
        else None,
        measurements=render_values(e.observations, e.measured, values_rng) if has("observations") else [],
    )


def witnesses(drawn: list[Drawn], rendered: list[Rendered], model: EvidenceModel) -> Witnesses:
    """What the oracle reads of these studies: the note's grades, the values as written."""
    read = np.zeros((len(drawn), len(VARIABLE_CHANNELS)))
    for row, study in enumerate(rendered):
        for m in study.measurements:
            if m.evidence is not None:
                read[row, VARIABLE_CHANNELS.index(m.variable)] = m.evidence
    measured = np.stack([d.evidence.measured for d in drawn])
    return Witnesses(
        image=np.stack([d.evidence.image for d in drawn]),
        grades=model.grades(np.stack([d.evidence.text for d in drawn])),
        observations=read,
        measured=measured,
        age=np.array([d.state.age for d in drawn]),
        sex=np.array([SEXES.index(d.state.sex) for d in drawn]),
        present=np.array([[d.has(m) for m in modality_names()] for d in drawn]),
    )


def study_row(drawn: Drawn, rendered: Rendered, report: tuple[str, str] | None, image: str) -> dict[str, object]:
    """The study's row of ``studies.csv``, without its split."""
    has_values = drawn.has("observations")
    row: dict[str, object] = {
        "study": drawn.study_id,
        "patient": drawn.patient_id,
        "age": drawn.state.age if has_values else None,
        "sex": drawn.state.sex.value if has_values else "",
        "reference_time": drawn.reference_time.isoformat(),
        "images": image,
    }
    for kind in (NoteKind.HISTORY, NoteKind.INDICATION):
        text = getattr(rendered.note, kind.value) if rendered.note else ""
        row[f"note_{kind.value}"] = text
        row[f"note_{kind.value}_time"] = drawn.note_time.isoformat() if text else ""
    row["note_findings"], row["note_impression"] = report or ("", "")
    row |= {f"label:{name}": int(present) for name, present in drawn.state.labels.items()}
    row |= {"source": drawn.site, "date": drawn.reference_time.date().isoformat()}
    return row


def observation_rows(drawn: Drawn, measurements: list[Measurement]) -> list[dict[str, object]]:
    """The study's rows of ``observations.csv``."""
    return [
        {
            "study": drawn.study_id,
            "code": m.code,
            "value": m.value,
            "unit": m.unit,
            "time": (drawn.reference_time + timedelta(hours=m.hours)).replace(microsecond=0).isoformat(),
        }
        for m in measurements
    ]


def mask_bits(masks: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint8]:
    """Masks [C, H, W] as one bit field [H, W], channel k in bit k."""
    weights = (1 << np.arange(len(masks), dtype=np.uint8))[:, None, None]
    bits: npt.NDArray[np.uint8] = (masks * weights).sum(axis=0, dtype=np.uint8)
    return bits
