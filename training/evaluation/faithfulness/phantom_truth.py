"""Truth of a phantom cohort: where evidence lies, and what the record would be without one piece of it.

A counterfactual twin is the study itself with one piece of evidence at the value that speaks neither for nor against
its finding, half-way between the means with and without it, and every other piece and all nuisance (patient, device,
noise, wording) as they were. What changed in the record is that evidence, and what changes in an answer is due to it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import yaml
from scipy.special import logit

from consilium.domain.errors import TrainingError
from consilium.domain.study import Image, NoteKind, Study
from consilium.modalities.registry import modality_names, nonempty_subsets
from consilium.preprocessing.batch import Prepared
from consilium.preprocessing.collate import Preprocessing
from training.cohorts.phantom.evidence import (
    IMAGE_CHANNELS,
    SPEAKS_FOR,
    TEXT_CHANNELS,
    VARIABLE_CHANNELS,
    EvidenceModel,
)
from training.cohorts.phantom.image.radiograph import BITS
from training.cohorts.phantom.observations.values import value_of
from training.cohorts.phantom.oracle import Witnesses, posterior
from training.cohorts.phantom.record import Design, Drawn, Shift, draw_study, render_study, witnesses
from training.cohorts.phantom.state import CONFOUNDERS, FINDINGS, StateTable
from training.cohorts.phantom.tables import table
from training.cohorts.phantom.truth_files import load_masks

_DESIGN_FILE = "truth/design.yaml"
_VISIBLE = 0.02
"""A pixel changed where it did by more than this share of the display range."""
_ROUNDING = 1 / 1000
"""Pixels of a square may differ from the cohort's own by this share of the full range."""
_WHITE = 65535

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Twin:
    """A study without one piece of evidence.

    Attributes
    ----------
    part, finding : str
        Which part of an explanation should have seen the evidence, and what it spoke for.
    prepared : Prepared
        The twin, as a model reads it.
    oracle : float
        The best possible log-odds of the finding, of the study minus of the twin.
    pixels : bool [H, W] or None
        Where the first image changed.
    passage : (int, int, int) or None
        Which characters of the study said it: note, start, end.
    feature : int or None
        Position of the value among the features.
    """

    part: str
    finding: str
    prepared: Prepared
    oracle: float
    pixels: Mask | None = None
    passage: tuple[int, int, int] | None = None
    feature: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Truth:
    """What is known of a phantom cohort beside its records."""

    root: Path
    design: Design
    states: StateTable
    model: EvidenceModel
    spans: Mapping[str, pd.DataFrame]

    @classmethod
    def load(cls, root: Path) -> Truth | None:
        """The truth of the cohort in `root`; None where it is no phantom."""
        file = root / _DESIGN_FILE
        if not file.is_file():
            return None
        plan: dict[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8"))
        plan.pop("studies")
        design = Design(**plan | {"shift": Shift(**plan["shift"])})
        spans = pd.read_csv(root / "truth" / "spans.csv", dtype={"study": str})
        by_study = {str(study): rows for study, rows in spans.groupby("study")}
        return cls(root, design, design.states(), design.evidence(), by_study)

    def masks(self, study_id: str) -> dict[str, Mask]:
        """Where each finding's evidence shows in the study's image, bool [H, W]."""
        return load_masks(self.root, study_id)

    def passages(self, study: Study, channel: str) -> list[tuple[int, int, int]]:
        """Which characters of the notes say `channel`: note, start, end."""
        notes = {note.kind: number for number, note in enumerate(study.notes)}
        rows = self.spans.get(study.study_id)
        if rows is None:
            return []
        said = rows[rows["channel"] == channel]
        places = zip(map(NoteKind, said["kind"]), said["start"].tolist(), said["stop"].tolist(), strict=True)
        return [(notes[kind], start, stop) for kind, start, stop in places if kind in notes]

    def confounders(self, finding: str) -> list[str]:
        """Channels of the note that explain the image evidence of `finding` away."""
        return [name for name in table("evidence")["image"][finding] if name in CONFOUNDERS]

    def modality_log_odds(self, study_id: str) -> dict[frozenset[str], npt.NDArray[np.float64]]:
        """The best possible log-odds [F] from every subset of the modalities that the study has, the empty one too."""
        drawn = self._drawn(study_id)
        witness = self._witness(drawn)
        subsets = [frozenset[str](), *nonempty_subsets(drawn.evidence.modalities)]
        return {subset: _log_odds(posterior(self.states, self.model, witness, subset))[0] for subset in subsets}

    def twins(self, prepared: Prepared, preprocessing: Preprocessing) -> Iterator[Twin]:
        """A twin for every piece of evidence in the study that a model reads and that is not neutral already.

        Raises
        ------
        TrainingError
            Where this version renders the study otherwise than the cohort has it.
        """
        drawn = self._drawn(prepared.study.study_id)
        witness = self._witness(drawn)
        before = _log_odds(posterior(self.states, self.model, witness, prepared.present))[0]
        if "image" in prepared.present:
            yield from self._image_twins(drawn, prepared, preprocessing, witness, before)
        if "text" in prepared.present:
            yield from self._word_twins(drawn, prepared, preprocessing, witness, before)
        if "observations" in prepared.present:
            yield from self._value_twins(drawn, prepared, preprocessing, witness, before)

    def _drawn(self, study_id: str) -> Drawn:
        return draw_study(self.design, int(study_id.removeprefix("S")), self.states, self.model)

    def _witness(self, drawn: Drawn) -> Witnesses:
        values = replace(drawn, evidence=replace(drawn.evidence, modalities=_only(drawn, "observations")))
        read = witnesses([values], [render_study(self.design, values)], self.model)
        present = np.array([[drawn.has(modality) for modality in modality_names()]])
        return replace(read, present=present)

    def _fall(self, before: npt.NDArray, witness: Witnesses, prepared: Prepared, finding: str) -> float:
        """By how much the oracle's log-odds of `finding` fall when it reads `witness`."""
        after = _log_odds(posterior(self.states, self.model, witness, prepared.present))[0]
        k = FINDINGS.index(finding)
        return float(before[k] - after[k])

    def _image_twins(
        self, drawn: Drawn, prepared: Prepared, preprocessing: Preprocessing, witness: Witnesses, before: npt.NDArray
    ) -> Iterator[Twin]:
        only = _only(drawn, "image")
        study, views = prepared.study, prepared.study.images
        own = self._pixels(drawn, drawn.evidence.image, only)
        square = preprocessing.image(_as_image(own, views[0]))
        if np.abs(square.astype(float) - prepared.images[0]).max() > _ROUNDING * _WHITE:
            raise TrainingError("this version renders the phantom's images otherwise; write the cohort anew")
        for channel, finding in enumerate(IMAGE_CHANNELS):
            changed = drawn.evidence.image.copy()
            changed[channel] = _neutral("image", finding, finding)
            pixels = self._pixels(drawn, changed, only)
            where = np.abs(pixels.astype(float) - own) > _VISIBLE * (2**BITS - 1)
            if not where.any():
                continue
            images = [preprocessing.image(_as_image(pixels, views[0]))]
            fall = self._fall(before, replace(witness, image=changed[None]), prepared, finding)
            yield Twin("image", finding, preprocessing.prepare(study, images=images), fall, pixels=where)

    def _pixels(self, drawn: Drawn, image: npt.NDArray, only: frozenset[str]) -> npt.NDArray[np.uint16]:
        evidence = replace(drawn.evidence, image=image, modalities=only)
        radiograph = render_study(self.design, replace(drawn, evidence=evidence)).radiograph
        assert radiograph is not None
        return radiograph.pixels

    def _word_twins(
        self, drawn: Drawn, prepared: Prepared, preprocessing: Preprocessing, witness: Witnesses, before: npt.NDArray
    ) -> Iterator[Twin]:
        own = self._notes(drawn, drawn.evidence.text)
        for note in prepared.study.notes:
            if own.get(note.kind, note.text) != note.text:
                raise TrainingError("this version writes the phantom's notes otherwise; write the cohort anew")
        for finding in FINDINGS:
            changed = drawn.evidence.text.copy()
            changed[TEXT_CHANNELS.index(finding)] = _neutral("text", finding, finding)
            grades = self.model.grades(changed)[None]
            passages = self.passages(prepared.study, finding)
            if not passages or np.array_equal(grades, witness.grades):
                continue
            written = self._notes(drawn, changed)
            notes = tuple(replace(n, text=written.get(n.kind, n.text)) for n in prepared.study.notes)
            fall = self._fall(before, replace(witness, grades=grades), prepared, finding)
            twin = preprocessing.prepare(replace(prepared.study, notes=notes), images=list(prepared.images))
            if twin.text.pieces == prepared.text.pieces:
                continue  # said beyond the length that the model reads
            yield Twin("text", finding, twin, fall, passage=passages[0])

    def _notes(self, drawn: Drawn, text: npt.NDArray) -> dict[NoteKind, str]:
        evidence = replace(drawn.evidence, text=text, modalities=_only(drawn, "text"))
        note = render_study(self.design, replace(drawn, evidence=evidence)).note
        assert note is not None
        return {NoteKind.HISTORY: note.history, NoteKind.INDICATION: note.indication}

    def _value_twins(
        self, drawn: Drawn, prepared: Prepared, preprocessing: Preprocessing, witness: Witnesses, before: npt.NDArray
    ) -> Iterator[Twin]:
        features = {feature.name: position for position, feature in enumerate(preprocessing.features)}
        for channel, variable in enumerate(VARIABLE_CHANNELS):
            course = prepared.read[features[variable]] if variable in features else None
            if course is None:
                continue
            read = course.last
            finding = SPEAKS_FOR[variable]
            neutral = _neutral("observations", variable, finding)
            ratio = value_of(variable, neutral) / value_of(variable, float(witness.observations[0, channel]))
            other = replace(read, value=read.value * ratio, given_value=read.given_value * ratio)
            observations = tuple(other if o is read else o for o in prepared.study.observations)
            changed = witness.observations.copy()
            changed[0, channel] = neutral
            fall = self._fall(before, replace(witness, observations=changed), prepared, finding)
            twin = preprocessing.prepare(
                replace(prepared.study, observations=observations), images=list(prepared.images)
            )
            yield Twin("observations", finding, twin, fall, feature=features[variable])


def load_truth(root: Path) -> Truth | None:
    """The truth of the phantom cohort in the folder `root`."""
    return Truth.load(root)


def decisive_variables(finding: str) -> frozenset[str]:
    """The variables whose value speaks for `finding`."""
    return frozenset(variable for variable, spoken_for in SPEAKS_FOR.items() if spoken_for == finding)


def _neutral(modality: str, channel: str, finding: str) -> float:
    """Evidence as likely with the finding as without it, all else absent."""
    return float(table("evidence")[modality][channel][finding]) / 2


def _only(drawn: Drawn, modality: str) -> frozenset[str]:
    return drawn.evidence.modalities & {modality}


def _as_image(pixels: npt.NDArray[np.uint16], like: Image) -> Image:
    """A rendered radiograph as ingest would read it."""
    shown = np.rint(pixels * (_WHITE / (2**BITS - 1))).astype(np.uint16)
    return replace(like, pixels=shown)


def _log_odds(probabilities: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return logit(np.clip(probabilities, 1e-12, 1 - 1e-12))
