"""A model's logits of studies, for every subset of their modalities, and its features of them."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import numpy.typing as npt
import torch

from consilium.configuration.recipe import Recipe
from consilium.domain.errors import TrainingError
from consilium.network.diagnosis_model import DiagnosisModel
from consilium.preprocessing.collate import Preprocessing
from consilium.referral.out_of_distribution import Inputs, OutOfDistributionDetector
from training.data.cached_cohort import CachedCohort
from training.data.datamodule import StudyDataset, study_loader
from training.data.feature_cache import feature_caches
from training.evaluation.predictions import Predictions
from training.evaluation.targets.target_predictions import TargetPredictions

Indices = npt.NDArray[np.int64]


def predict(
    model: DiagnosisModel,
    preprocessing: Preprocessing,
    cached: CachedCohort,
    rows: Indices,
    recipe: Recipe,
    detector: OutOfDistributionDetector | None = None,
) -> Predictions:
    """Uncalibrated logits of the studies at `rows`, in float32, as the service computes them.

    Studies in which the model can read nothing are left out.

    Parameters
    ----------
    detector : OutOfDistributionDetector, optional
        Scores the studies beside; it need not be calibrated.

    Raises
    ------
    TrainingError
        Where no study remains.
    """
    return _predict(model, preprocessing, cached, rows, recipe, detector, None)


def predict_training(
    model: DiagnosisModel, preprocessing: Preprocessing, cached: CachedCohort, rows: Indices, recipe: Recipe
) -> tuple[Predictions, OutOfDistributionDetector | None]:
    """Predictions of the studies that `model` learned from, and an out-of-distribution detector fitted on them.

    The detector is not calibrated: that needs the scores of other studies, which `predict` gives. It is None where the
    recipe does not refer studies out of distribution.

    Raises
    ------
    TrainingError
        Where no study remains, or too few have a modality.
    """
    inputs: list[Inputs] = []
    wanted = recipe.refer.out_of_distribution is not None
    seen = _predict(model, preprocessing, cached, rows, recipe, None, inputs if wanted else None)
    if not wanted:
        return seen, None
    known = Inputs.concatenate(inputs)
    return seen, OutOfDistributionDetector.fit(known, seen.patient_ids, preprocessing.preparations, recipe.seed)


def _predict(
    model: DiagnosisModel,
    preprocessing: Preprocessing,
    cached: CachedCohort,
    rows: Indices,
    recipe: Recipe,
    detector: OutOfDistributionDetector | None,
    inputs: list[Inputs] | None,
) -> Predictions:
    dataset = StudyDataset(cached, preprocessing, rows, feature_caches(model, preprocessing))
    if not len(dataset):
        raise TrainingError("there is no study that this model can read")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    outputs = _outputs(model.to(device).eval(), dataset, preprocessing, recipe, device, detector, inputs)
    model.cpu()
    present = {modality: dataset.present[modality] for modality in model.modalities}
    records = [cached.cohort.records[row] for row in dataset.rows]
    fused = {
        key: _where(np.all([present[name] for name in key.split("+")], axis=0), logits)
        for key, logits in outputs["fused"].items()
    }
    return Predictions(
        study_ids=np.array([record.study_id for record in records]),
        patient_ids=np.array([record.patient_id for record in records]),
        labels=dataset.labels.astype(np.float64),
        present=present,
        fused={key: logits[:, : model.findings] for key, logits in fused.items()},
        unimodal={name: _where(present[name], logits) for name, logits in outputs["alone"].items()},
        features=outputs["features"],
        out_of_distribution={
            part: scores.astype(np.float64) for part, scores in outputs["out_of_distribution"].items()
        },
        targets=_of_targets(model, cached.cohort.outcomes[dataset.rows], fused),
    )


def _of_targets(
    model: DiagnosisModel, outcomes: npt.NDArray[np.float64], answers: dict[str, npt.NDArray[np.float64]]
) -> TargetPredictions | None:
    """What follows the findings in `answers` [N, F + S]."""
    if not model.owners:
        return None
    return TargetPredictions(outcomes, {key: values[:, model.findings :] for key, values in answers.items()})


@torch.inference_mode()
def _outputs(
    model: DiagnosisModel,
    dataset: StudyDataset,
    preprocessing: Preprocessing,
    recipe: Recipe,
    device: torch.device,
    detector: OutOfDistributionDetector | None,
    inputs: list[Inputs] | None,
) -> dict[str, dict[str, npt.NDArray]]:
    """Everything that the model gives, by kind and name; `inputs` gets what the detector may be fitted on."""
    found: dict[str, dict[str, list[npt.NDArray]]] = defaultdict(lambda: defaultdict(list))
    detector = None if detector is None else detector.to(device)
    for batch in study_loader(dataset, preprocessing, recipe):
        here = batch.to(device, non_blocking=True)
        tokens = model.encode(here)
        features = model.features(tokens, model.fusion(tokens))
        received = Inputs.of(here, features)
        outputs = {
            "fused": model.subsets(tokens),
            "alone": model.unimodal_logits(tokens),
            "features": features,
            "out_of_distribution": {} if detector is None else detector.score(received),
        }
        for kind, values in outputs.items():
            for name, tensor in values.items():
                found[kind][name].append(tensor.cpu().numpy())
        if inputs is not None:
            inputs.append(received.cpu())
    joined = {kind: {name: np.concatenate(v) for name, v in values.items()} for kind, values in found.items()}
    return defaultdict(dict, joined)


def _where(present: npt.NDArray[np.bool_], logits: npt.NDArray) -> npt.NDArray[np.float64]:
    return np.where(present[:, None], logits.astype(np.float64), np.nan)
