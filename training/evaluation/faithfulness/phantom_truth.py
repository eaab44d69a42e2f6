"""Truth of a phantom cohort: where evidence lies, and what the record would be without one piece of it.

A counterfactual twin is the study itself with one piece of evidence at the value that speaks neither for nor against
its finding, half-way between the means with and without it, and every other piece and all nuisance (patient, device,
noise, wording) as they were. What changed in the record is that evidence, and what changes in an answer is due to it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import logit

from consilium.domain.errors import TrainingError
from consilium.domain.study import Study
from consilium.modalities.image.image_record import Image
from consilium.modalities.registry import nonempty_subsets
from consilium.modalities.text.note import NoteKind
from consilium.preprocessing.batch import Prepared
from consilium.preprocessing.collate import Preprocessing, converted
from training.cohorts.phantom.evidence import EvidenceModel
from training.cohorts.phantom.image.lesions import IMAGE_CHANNELS
from training.cohorts.phantom.image.masks import load_masks
from training.cohorts.phantom.image.radiograph import BITS
from training.cohorts.phantom.observations.phantom import ValueReading
from training.cohorts.phantom.observations.values import SPEAKS_FOR, VARIABLE_CHANNELS, value_of
from training.cohorts.phantom.oracle import Readings, has_modalities, log_likelihoods, posterior, read_records
from training.cohorts.phantom.record import Design, Drawn, Rendered, draw_study
from training.cohorts.phantom.state import CONFOUNDERS, FINDINGS, StateTable
from training.cohorts.phantom.tables import table
from training.cohorts.phantom.text.note import TEXT_CHANNELS, note_grades
from training.cohorts.phantom.text.phantom import SPANS_FILE

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
        design = Design.load(root)
        if design is None:
            return None
        spans = pd.read_csv(root / SPANS_FILE, dtype={"study": str})
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
        readings = self._readings(drawn)
        subsets = [frozenset[str](), *nonempty_subsets(drawn.evidence.modalities)]
        return {subset: self._best(drawn, readings, subset) for subset in subsets}

    def twins(self, prepared: Prepared, preprocessing: Preprocessing) -> Iterator[Twin]:
        """A twin for every piece of evidence in the study that a model reads and that is not neutral already.

        Raises
        ------
        TrainingError
            Where this version renders the study otherwise than the cohort has it.
        """
        drawn = self._drawn(prepared.study.study_id)
        readings = self._readings(drawn)
        before = self._best(drawn, readings, prepared.present)
        if "image" in prepared.present:
            yield from self._image_twins(drawn, prepared, preprocessing, readings, before)
        if "text" in prepared.present:
            yield from self._word_twins(drawn, prepared, preprocessing, readings, before)
        if "observations" in prepared.present:
            yield from self._value_twins(drawn, prepared, preprocessing, readings, before)

    def _drawn(self, study_id: str) -> Drawn:
        return draw_study(self.design, int(study_id.removeprefix("S")), self.states, self.model)

    def _readings(self, drawn: Drawn) -> Readings:
        written = {
            name: phantom.render(self.design, drawn)
            for name, phantom in self.model.phantoms.items()
            if phantom.read_as_written and drawn.has(name)
        }
        return read_records(self.model, [drawn], [Rendered(written)])

    def _best(self, drawn: Drawn, readings: Readings, subset: Iterable[str]) -> npt.NDArray[np.float64]:
        """The best possible log-odds [F] from the modalities in `subset`, of the study with these `readings`."""
        likelihoods = log_likelihoods(self.states, self.model, readings, has_modalities(self.model, [drawn]))
        return _log_odds(posterior(self.states.prior, likelihoods, self.model.modalities, subset))[0]

    def _fall(self, before: npt.NDArray, drawn: Drawn, readings: Readings, prepared: Prepared, finding: str) -> float:
        """By how much the oracle's log-odds of `finding` fall when it reads `readings`."""
        after = self._best(drawn, readings, prepared.present)
        k = FINDINGS.index(finding)
        return float(before[k] - after[k])

    def _render(self, drawn: Drawn, modality: str, evidence: Any) -> Any:
        """One modality of the study, with other evidence and the same nuisance."""
        return self.model.phantoms[modality].render(
            self.design, replace(drawn, evidence=drawn.evidence.with_part(modality, evidence))
        )

    def _image_twins(
        self, drawn: Drawn, prepared: Prepared, preprocessing: Preprocessing, readings: Readings, before: npt.NDArray
    ) -> Iterator[Twin]:
        evidence = drawn.evidence.parts["image"]
        study, views = prepared.study, prepared.study.images
        own = self._render(drawn, "image", evidence).pixels
        convert = preprocessing.preparations["image"].convert
        square = convert(_as_image(own, views[0]))
        if np.abs(square.astype(float) - prepared.parts["image"].arrays["images"][0]).max() > _ROUNDING * _WHITE:
            raise TrainingError("this version renders the phantom's images otherwise; write the cohort anew")
        for channel, finding in enumerate(IMAGE_CHANNELS):
            changed = evidence.copy()
            changed[channel] = _neutral("image", finding, finding)
            pixels = self._render(drawn, "image", changed).pixels
            where = np.abs(pixels.astype(float) - own) > _VISIBLE * (2**BITS - 1)
            if not where.any():
                continue
            squares = {"image": [convert(_as_image(pixels, views[0]))]}
            fall = self._fall(before, drawn, {**readings, "image": changed[None]}, prepared, finding)
            yield Twin("image", finding, preprocessing.prepare(study, squares), fall, pixels=where)

    def _word_twins(
        self, drawn: Drawn, prepared: Prepared, preprocessing: Preprocessing, readings: Readings, before: npt.NDArray
    ) -> Iterator[Twin]:
        evidence = drawn.evidence.parts["text"]
        own = self._notes(drawn, evidence)
        for note in prepared.study.notes:
            if own.get(note.kind, note.text) != note.text:
                raise TrainingError("this version writes the phantom's notes otherwise; write the cohort anew")
        for finding in FINDINGS:
            changed = evidence.copy()
            changed[TEXT_CHANNELS.index(finding)] = _neutral("text", finding, finding)
            grades = note_grades(changed)[None]
            passages = self.passages(prepared.study, finding)
            if not passages or np.array_equal(grades, readings["text"]):
                continue
            written = self._notes(drawn, changed)
            notes = tuple(replace(n, text=written.get(n.kind, n.text)) for n in prepared.study.notes)
            fall = self._fall(before, drawn, {**readings, "text": grades}, prepared, finding)
            twin = preprocessing.prepare(prepared.study.with_parts(text=notes), converted(preprocessing, prepared))
            if twin.parts["text"].pieces == prepared.parts["text"].pieces:
                continue  # said beyond the length that the model reads
            yield Twin("text", finding, twin, fall, passage=passages[0])

    def _notes(self, drawn: Drawn, text: npt.NDArray) -> dict[NoteKind, str]:
        note = self._render(drawn, "text", text)
        return {NoteKind.HISTORY: note.history, NoteKind.INDICATION: note.indication}

    def _value_twins(
        self, drawn: Drawn, prepared: Prepared, preprocessing: Preprocessing, readings: Readings, before: npt.NDArray
    ) -> Iterator[Twin]:
        own: ValueReading = readings["observations"]
        fitted = preprocessing.preparations["observations"].features
        features = {feature.name: position for position, feature in enumerate(fitted)}
        for channel, variable in enumerate(VARIABLE_CHANNELS):
            course = prepared.parts["observations"].read[features[variable]] if variable in features else None
            if course is None:
                continue
            read = course.last
            finding = SPEAKS_FOR[variable]
            neutral = _neutral("observations", variable, finding)
            ratio = value_of(variable, neutral) / value_of(variable, float(own.written[0, channel]))
            other = replace(read, value=read.value * ratio, given_value=read.given_value * ratio)
            observations = tuple(other if o is read else o for o in prepared.study.observations)
            changed = own.written.copy()
            changed[0, channel] = neutral
            other_readings = {**readings, "observations": replace(own, written=changed)}
            fall = self._fall(before, drawn, other_readings, prepared, finding)
            study = prepared.study.with_parts(observations=observations)
            twin = preprocessing.prepare(study, converted(preprocessing, prepared))
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


def _as_image(pixels: npt.NDArray[np.uint16], like: Image) -> Image:
    """A rendered radiograph as ingest would read it."""
    shown = np.rint(pixels * (_WHITE / (2**BITS - 1))).astype(np.uint16)
    return replace(like, pixels=shown)


def _log_odds(probabilities: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return logit(np.clip(probabilities, 1e-12, 1 - 1e-12))
