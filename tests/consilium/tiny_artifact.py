"""A tiny artifact with random weights that tests share."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from consilium.artifacts.artifact import Artifact
from consilium.artifacts.reference_studies import References
from consilium.calibration import Calibration, fit_calibration
from consilium.configuration.recipe import Recipe
from consilium.domain.diagnosis import AuditVerdict
from consilium.explain.similar_cases import Neighbours
from consilium.modalities.registry import nonempty_subsets, subset_key
from consilium.monitoring.reference import HeldOut, MonitoringReference
from consilium.network.diagnosis_model import FUSED, DiagnosisModel
from consilium.preprocessing.collate import Preprocessing
from consilium.referral.out_of_distribution import Inputs, OutOfDistributionDetector
from tests.consilium.tiny import FINDINGS, tiny_model, tiny_preprocessing, tiny_recipe, tiny_study
from training.pipeline.reference_studies import reference_studies

STUDIES = 30


def tiny_calibration(recipe: Recipe, seed: int = 0) -> Calibration:
    """Fitted on random logits that say something of random labels."""
    rng = np.random.default_rng(seed)
    labels = (rng.random((80, len(FINDINGS))) < 0.4).astype(np.float32)

    def logits() -> np.ndarray:
        return rng.normal(2 * labels - 1, 1.5)

    return fit_calibration(
        FINDINGS,
        labels,
        np.array([f"p{n // 2}" for n in range(80)]),
        {subset_key(subset): logits() for subset in nonempty_subsets(recipe.modalities)},
        {modality: logits() for modality in recipe.modalities},
        present=dict.fromkeys(recipe.modalities, np.ones(80, bool)),
        recipe=recipe.calibration,
        seed=seed,
        bootstrap=20,
    )


@torch.no_grad()
def tiny_inputs(preprocessing: Preprocessing, model: DiagnosisModel, first: int, studies: int = STUDIES) -> Inputs:
    """Inputs of the out-of-distribution detector, of `tiny_study` number `first` and the following."""
    numbers = range(first, first + studies)
    batch = preprocessing.collate([preprocessing.prepare(tiny_study(number)) for number in numbers])
    return Inputs.of(batch, model(batch).features)


def tiny_detector(preprocessing: Preprocessing, model: DiagnosisModel, inputs: Inputs) -> OutOfDistributionDetector:
    """Fitted on `inputs`, of studies of as many patients, and calibrated on others."""
    patients = np.array([f"p{n}" for n in range(len(inputs))])
    detector = OutOfDistributionDetector.fit(inputs, patients, preprocessing.preparations, seed=0)
    scores = detector.score(tiny_inputs(preprocessing, model, 1000))
    return detector.calibrated({part: values.numpy().astype(np.float64) for part, values in scores.items()})


def tiny_monitoring(training: Inputs, held_out: Inputs, seed: int = 0) -> MonitoringReference:
    """Of `STUDIES` studies held out, with made-up probabilities."""
    rng = np.random.default_rng(seed)
    learned, others = rng.uniform(0.1, 0.9, (2, STUDIES, len(FINDINGS)))
    features = {part: values.numpy() for part, values in held_out.features.items()}
    categories = [{"sex": sex} for sex in rng.choice(["female", "male"], STUDIES)]
    return MonitoringReference.fit(
        {part: values.numpy() for part, values in training.features.items()},
        learned,
        HeldOut(features, others, categories),
        FINDINGS.names,
        seed,
    )


def tiny_artifact(seed: int = 0, **sections: Any) -> Artifact:
    """An artifact of `tiny_recipe(**sections)`; another `seed` gives other weights."""
    recipe = tiny_recipe(**sections)
    preprocessing = tiny_preprocessing(recipe)
    model = tiny_model(recipe, preprocessing, seed)
    inputs = tiny_inputs(preprocessing, model, 0)
    neighbours = Neighbours.fit(
        inputs.features[FUSED].numpy(),
        np.array([[number % 2, np.nan] for number in range(STUDIES)]),
        dict.fromkeys(recipe.modalities, np.ones(STUDIES, bool)),
        [f"s{number}" for number in range(STUDIES)],
        "0" * 64,
        FINDINGS,
    )
    calibration = tiny_calibration(recipe)
    return Artifact(
        recipe,
        FINDINGS,
        preprocessing,
        model,
        calibration,
        {"studies": STUDIES},
        detector=tiny_detector(preprocessing, model, inputs),
        audit=AuditVerdict("sound"),
        neighbours=neighbours,
        card={"card.md": "# Tiny\n", "card.html": "<!doctype html><title>Tiny</title>"},
        monitoring=tiny_monitoring(inputs, tiny_inputs(preprocessing, model, 1000)),
        references=References.answered(reference_studies(preprocessing), preprocessing, model, calibration),
    )
