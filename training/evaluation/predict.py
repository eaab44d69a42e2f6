"""What a model says of studies, through every subset of their modalities, and what it makes of them."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import numpy.typing as npt
import torch

from consilium.configuration.recipe import Recipe
from consilium.domain.errors import TrainingError
from consilium.network.diagnosis_model import DiagnosisModel
from consilium.preprocessing.collate import Preprocessing
from consilium.referral.out_of_distribution import Inputs, NoveltyDetector
from training.data.datamodule import CachedCohort, StudyDataset, study_loader
from training.evaluation.predictions import Predictions

Indices = npt.NDArray[np.int64]


def predict(
    model: DiagnosisModel,
    preprocessing: Preprocessing,
    cached: CachedCohort,
    rows: Indices,
    recipe: Recipe,
    novelty: NoveltyDetector | None = None,
) -> Predictions:
    """Uncalibrated logits of the studies at `rows`, in float32, as the service computes them.

    Studies in which the model can read nothing are left out.

    Parameters
    ----------
    novelty : NoveltyDetector, optional
        Scores the studies beside; it need not be calibrated.

    Raises
    ------
    TrainingError
        Where no study remains.
    """
    return _predict(model, preprocessing, cached, rows, recipe, novelty, None)


def predict_training(
    model: DiagnosisModel, preprocessing: Preprocessing, cached: CachedCohort, rows: Indices, recipe: Recipe
) -> tuple[Predictions, NoveltyDetector | None]:
    """Predictions of the studies that `model` learned from, and what novelty takes for ordinary after seeing them.

    The detector is not calibrated: that needs the scores of other studies, which `predict` gives. It is None where the
    recipe does not refer by novelty.

    Raises
    ------
    TrainingError
        Where no study remains, or too few have a modality.
    """
    inputs: list[Inputs] = []
    wanted = recipe.refer.novelty is not None
    seen = _predict(model, preprocessing, cached, rows, recipe, None, inputs if wanted else None)
    if not wanted:
        return seen, None
    known = Inputs.concatenate(inputs)
    return seen, NoveltyDetector.fit(known, seen.patient_ids, preprocessing.preparations, recipe.seed)


def _predict(
    model: DiagnosisModel,
    preprocessing: Preprocessing,
    cached: CachedCohort,
    rows: Indices,
    recipe: Recipe,
    novelty: NoveltyDetector | None,
    inputs: list[Inputs] | None,
) -> Predictions:
    dataset = StudyDataset(cached, preprocessing, rows)
    if not len(dataset):
        raise TrainingError("there is no study that this model can read")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    said = _outputs(model.to(device).eval(), dataset, preprocessing, recipe, device, novelty, inputs)
    model.cpu()
    present = {modality: dataset.present[modality] for modality in model.modalities}
    records = [cached.cohort.records[row] for row in dataset.rows]
    return Predictions(
        study_ids=np.array([record.study_id for record in records]),
        patient_ids=np.array([record.patient_id for record in records]),
        labels=dataset.labels.astype(np.float64),
        present=present,
        fused={
            key: _where(np.all([present[name] for name in key.split("+")], axis=0), logits)
            for key, logits in said["fused"].items()
        },
        opinions={name: _where(present[name], logits) for name, logits in said["alone"].items()},
        features=said["features"],
        novelty={part: scores.astype(np.float64) for part, scores in said["novelty"].items()},
    )


@torch.inference_mode()
def _outputs(
    model: DiagnosisModel,
    dataset: StudyDataset,
    preprocessing: Preprocessing,
    recipe: Recipe,
    device: torch.device,
    novelty: NoveltyDetector | None,
    inputs: list[Inputs] | None,
) -> dict[str, dict[str, npt.NDArray]]:
    """Everything that the model gives, by kind and name; `inputs` gets what novelty may be learned from."""
    found: dict[str, dict[str, list[npt.NDArray]]] = defaultdict(lambda: defaultdict(list))
    detector = None if novelty is None else novelty.to(device)
    for batch in study_loader(dataset, preprocessing, recipe):
        here = batch.to(device, non_blocking=True)
        tokens = model.encode(here)
        features = model.features(tokens, model.fusion(tokens))
        judged = Inputs.of(here, features)
        said = {
            "fused": model.subsets(tokens),
            "alone": model.opinions(tokens),
            "features": features,
            "novelty": {} if detector is None else detector.score(judged),
        }
        for kind, values in said.items():
            for name, tensor in values.items():
                found[kind][name].append(tensor.cpu().numpy())
        if inputs is not None:
            inputs.append(judged.cpu())
    joined = {kind: {name: np.concatenate(v) for name, v in values.items()} for kind, values in found.items()}
    return defaultdict(dict, joined)


def _where(heard: npt.NDArray[np.bool_], logits: npt.NDArray) -> npt.NDArray[np.float64]:
    return np.where(heard[:, None], logits.astype(np.float64), np.nan)
