"""A model that answers at once, by a rule that a test can compute."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType, SimpleNamespace
from typing import Any

import numpy as np

from consilium.configuration.recipe import Recipe
from consilium.domain.diagnosis import (
    PRESENT,
    AuditVerdict,
    Diagnosis,
    Estimate,
    Explanation,
    FindingExplanation,
    FindingResult,
    ModelIdentity,
    Neighbour,
    OperatingPoint,
    OutOfDistributionScore,
)
from consilium.domain.errors import InputError
from consilium.domain.findings import Finding, FindingSet
from consilium.domain.study import Study
from consilium.domain.variables import BUILT_IN, VariableTable
from consilium.explain import Neighbours
from consilium.explain.vector_index import VectorIndex
from consilium.inference.self_test import Acceptance, Backend, Tolerance
from consilium.modalities.converter import Converter
from consilium.modalities.image.image_record import Image
from consilium.modalities.image.presentation import ImageInformation, ImageSaliency, OriginInformation
from consilium.modalities.observations.presentation import (
    ObservationsInformation,
    ObservationWeight,
    VariableInformation,
)
from consilium.modalities.text.note import Note, NoteKind
from consilium.modalities.text.presentation import TextInformation, WordWeight
from consilium.modalities.weight_source import WeightSource
from tests.patience import PATIENCE_S

POISON = "poison"
FINDINGS = FindingSet((Finding("pneumonia", "Pneumonia", "233604007"), Finding("pneumothorax", "Pneumothorax")))

TRAINED_ON = OriginInformation(images=40, modality={"DX": 30, "CR": 10}, body_part={"CHEST": 40}, for_processing=0)
CASES = Neighbours(
    states=VectorIndex(np.array([[0.0, 1.0], [1.0, 0.0], [0.8, 0.6]], np.float32)),
    labels=np.array([[0, 0], [1, -1], [0, 1]], np.int8),
    present={"image": np.array([True, True, False]), "text": np.array([False, True, True])},
    pseudonyms=("aa", "bb", "cc"),
    findings=FINDINGS.names,
    cohort_studies=3,
)
"""To the state (1, 0) nearest are bb, cc, aa."""


class FakeModel:
    """The probability of every finding is the mean of the first image, or the length of the notes in thousands."""

    identity = ModelIdentity("consilium-fake", "7", "ab" * 32)
    recipe = Recipe(name="fake", description="A rule.", modalities={"image": {}, "text": {}, "observations": {}})
    findings = FINDINGS
    variables = BUILT_IN
    converters: Mapping[str, Converter] = MappingProxyType({})
    audit = AuditVerdict("suspect", ("The file format tells pneumonia apart.",))
    acceptance = Acceptance(Backend.BF16, 3, 0.0125, 1, Tolerance())

    def __init__(self) -> None:
        self.card = {"card.md": "# Card", "card.html": "<!doctype html><title>Card</title>"}
        self.batches: list[int] = []
        self.threads: set[int] = set()
        self.hold = threading.Event()
        self.hold.set()
        self.entered = threading.Event()
        self.neighbours: Neighbours | None = CASES

    @property
    def information(self) -> dict[str, Any]:
        text = self.recipe.modalities["text"]
        kinds = tuple(kind.value for kind in text.note_kinds)
        read = (VariableInformation.of(BUILT_IN["crp"]),)
        return {
            "image": ImageInformation(trained_on=TRAINED_ON),
            "text": TextInformation(note_kinds=kinds, mask_notes=text.mask_notes),
            "observations": ObservationsInformation(variables=read, history=1),
        }

    @property
    def weights(self) -> dict[str, tuple[WeightSource, ...]]:
        source = WeightSource(architecture="dinov2", source="owner/name", sha256="ef" * 32, licence="MIT")
        return {"image": (source,)}

    def example(self) -> Study:
        ramp = np.linspace(0, 65535, 64, dtype=np.uint16)
        return Study({"image": (Image(np.tile(ramp, (64, 1)), digest="", source="png"),)})

    def prepare(self, study: Study) -> Any:
        if any(note.text == "unprepared" for note in study.parts["text"]):
            raise InputError("study", "nothing that this model reads", "must have image or text or observations")
        return SimpleNamespace(study=study)

    def diagnose_prepared(self, items: Sequence[Any]) -> list[Diagnosis]:
        self.entered.set()
        self.hold.wait(PATIENCE_S)
        self.batches.append(len(items))
        self.threads.add(threading.get_ident())
        if any(note.text == POISON for item in items for note in item.study.parts["text"]):
            raise ValueError("this message holds Jane Roe")
        return [self._diagnosis(item.study) for item in items]

    def explain_prepared(self, item: Any, findings: Sequence[str] | None = None, level: str = "fast") -> Explanation:
        names = self.findings.names if findings is None else findings
        explained = tuple(self._explained(item.study, name, level) for name in names)
        neighbour = Neighbour("b7d1c90f", 0.75, {"pneumonia": True, "pneumothorax": None}, ("text",))
        return Explanation(self._diagnosis(item.study), explained, (neighbour,))

    def similar_prepared(self, item: Any, count: int) -> Explanation:
        assert self.neighbours is not None
        return Explanation(self._diagnosis(item.study), (), self.neighbours.nearest([1.0, 0.0], count))

    def probability(self, study: Study) -> float:
        if study.parts["image"]:
            return float(study.parts["image"][0].pixels.mean() / 65535)
        return sum(len(note.text) for note in study.parts["text"]) / 1000

    def _diagnosis(self, study: Study) -> Diagnosis:
        interval = Estimate(0.9, 0.8, 1.0)
        point = OperatingPoint(0.5, 0.9, interval, interval)
        p = self.probability(study)
        present = "image" if study.parts["image"] else "text"
        return Diagnosis(
            findings=tuple(
                FindingResult(
                    *(finding.name, finding.display, finding.code),
                    probability=p,
                    call=p >= 0.5,
                    operating_point=point,
                    unimodal_probabilities={present: p},
                    interval=(p / 2, p),
                    prediction_set=(PRESENT,),
                    refer_reasons=(),
                )
                for finding in self.findings
            ),
            exclusive=False,
            modalities=(present,),
            absent=(),
            model=self.identity,
            input_digests=study.input_digests(),
            warnings=study.warnings,
            out_of_distribution=(OutOfDistributionScore(present, 2.5, 0.125, out_of_distribution=False),),
            refer_reasons=("A rule.",),
            audit=self.audit,
        )

    def _explained(self, study: Study, name: str, level: str) -> FindingExplanation:
        return FindingExplanation(
            finding=name,
            display=self.findings.findings[self.findings.index(name)].display,
            log_odds=1.5,
            prior_log_odds=-0.5,
            modalities={"image": 2.0},
            parts={
                "image": tuple(self._saliency(number, image) for number, image in enumerate(study.parts["image"])),
                "text": tuple(WordWeight(i, 0, 5, note.text[:5], 0.25) for i, note in enumerate(study.parts["text"])),
                "observations": (ObservationWeight("crp", "C-reactive protein", "112", "mg/L", -0.125),),
            },
            methods={"image": "rule", "level": level},
        )

    def _saliency(self, number: int, image: Image) -> ImageSaliency:
        """Zero, but 2 in one pixel, −1 in another, and nothing seen in the first column."""
        values = np.zeros(image.shape, np.float32)
        values[3, 5], values[4, 6], values[:, 0] = 2.0, -1.0, np.nan
        return ImageSaliency(number, values, (16, 16))


def note_study(text: str) -> Study:
    return Study({"text": (Note(NoteKind.HISTORY, text),)})


def reads(study: Study) -> Callable[[VariableTable], Study]:
    """Reads the same whatever the model knows."""
    return lambda _: study
