"""All four parts of an explanation, for one study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy.typing as npt
import torch

from consilium.calibration import Calibration
from consilium.domain.diagnosis import FindingExplanation, ImageSaliency, ObservationWeight, WordWeight
from consilium.domain.errors import InputError
from consilium.domain.findings import FindingSet
from consilium.explain.case import Case
from consilium.explain.methods import DEFAULTS, IMAGE, LEVELS, MODALITY, VALUES, WORDS, Method, find_method
from consilium.explain.shapley import shapley
from consilium.modalities.image.explanation import image_saliency
from consilium.modalities.observations.explanation import observation_weights
from consilium.modalities.text.explanation import weighed
from consilium.network.diagnosis_model import DiagnosisModel, Logits
from consilium.preprocessing.batch import Prepared
from consilium.preprocessing.collate import Preprocessing


def explain(
    model: DiagnosisModel,
    preprocessing: Preprocessing,
    calibration: Calibration,
    prepared: Prepared,
    findings: FindingSet,
    names: Sequence[str],
    level: str = "fast",
    methods: Mapping[str, str] | None = None,
) -> tuple[tuple[FindingExplanation, ...], Logits]:
    """What spoke for each of the findings `names`, and the logits of the forward pass that was explained.

    Parameters
    ----------
    methods : mapping of part to method, optional
        In place of the defaults of `level`; see `consilium.explain.methods.METHODS`.

    Raises
    ------
    InputError
        For an unknown finding, level, part or method, or a method that `model` has not the layers for.
    """
    if level not in LEVELS:
        raise InputError("level", level, f"must be one of {', '.join(LEVELS)}")
    positions = [findings.index(name) for name in names]
    chosen = _choose(model, level, methods or {})
    watched = {module for method in chosen.values() for module in method.watches(model)}
    case = Case.of(model, preprocessing, calibration, prepared, [*watched, model.fusion])
    weights = {part: method.weigh(case, positions) for part, method in chosen.items() if names and _has(case, part)}
    values = case.subset_log_odds()
    used = {part: method.name for part, method in chosen.items()}
    explained = []
    for row, position in enumerate(positions):
        by_subset = {subset: float(log_odds[position]) for subset, log_odds in values.items()}
        images, words, observations = _named(case, {part: weight[row] for part, weight in weights.items()})
        explained.append(
            FindingExplanation(
                finding=findings.findings[position],
                log_odds=by_subset[prepared.present],
                prior_log_odds=by_subset[frozenset()],
                modalities=shapley(by_subset),
                images=images,
                words=words,
                observations=observations,
                methods=used | {"modalities": "shapley"},
            )
        )
    return tuple(explained), _logits(case)


def _choose(model: DiagnosisModel, level: str, named: Mapping[str, str]) -> dict[str, Method]:
    """The method of each part that the model reads."""
    found = {part: find_method(model, part, name) for part, name in (dict(DEFAULTS[level]) | dict(named)).items()}
    return {part: method for part, method in found.items() if method.suits(model)}


def _has(case: Case, part: str) -> bool:
    """Whether there is something to weigh: an image, a word, a value."""
    there = {WORDS: bool(case.words), VALUES: bool(case.known)}
    return MODALITY[part] in case.prepared.present and there.get(part, True)


def _named(
    case: Case, weights: Mapping[str, npt.NDArray]
) -> tuple[tuple[ImageSaliency, ...], tuple[WordWeight, ...], tuple[ObservationWeight, ...]]:
    """The weights of one finding, as the reader meets them."""
    images: tuple[ImageSaliency, ...] = ()
    words: tuple[WordWeight, ...] = ()
    observations: tuple[ObservationWeight, ...] = ()
    if IMAGE in weights:
        images = image_saliency(weights[IMAGE], case.prepared.letterboxes)
    if WORDS in weights:
        words = weighed(case.words, weights[WORDS])
    if VALUES in weights:
        by_feature = dict(zip(case.known, weights[VALUES].tolist(), strict=True))
        observations = observation_weights(case.prepared, case.preprocessing, by_feature)
    return images, words, observations


def _logits(case: Case) -> Logits:
    """What `DiagnosisModel.forward` would have said."""
    with torch.no_grad():
        opinions = case.model.opinions(case.tokens)
        features = case.model.features(case.tokens, case.traced[case.model.fusion].detach())
    present = {modality: said.present for modality, said in case.tokens.items()}
    return Logits(case.fused.detach(), opinions, present, features)
