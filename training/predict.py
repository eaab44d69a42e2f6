"""What a model says of studies, through every subset of their modalities."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import numpy.typing as npt
import torch

from consilium.collate import Preprocessing
from consilium.errors import TrainingError
from consilium.model import DiagnosisModel
from consilium.recipe import Recipe
from consilium.study import Modality
from training.datamodule import CachedCohort, StudyDataset, study_loader
from training.predictions import Predictions


def predict(
    model: DiagnosisModel,
    preprocessing: Preprocessing,
    cached: CachedCohort,
    rows: npt.NDArray[np.int64],
    recipe: Recipe,
) -> Predictions:
    """Uncalibrated logits of the studies at `rows`, in float32, as the service computes them.

    Studies in which the model can read nothing are left out.

    Raises
    ------
    TrainingError
        Where none remains.
    """
    dataset = StudyDataset(cached, preprocessing, rows)
    if not len(dataset):
        raise TrainingError("there is no study that this model can read")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    fused, opinions = _logits(model.to(device).eval(), dataset, preprocessing, recipe, device)
    model.cpu()
    present = dataset.present & np.array([modality in model.modalities for modality in Modality])
    column = {modality: position for position, modality in enumerate(Modality)}
    records = [cached.cohort.records[row] for row in dataset.rows]
    return Predictions(
        study_ids=np.array([record.study_id for record in records]),
        patient_ids=np.array([record.patient_id for record in records]),
        labels=dataset.labels.astype(np.float64),
        present=present,
        fused={
            key: _where(present[:, [column[Modality(name)] for name in key.split("+")]].all(axis=1), logits)
            for key, logits in fused.items()
        },
        opinions={modality: _where(present[:, column[modality]], logits) for modality, logits in opinions.items()},
    )


@torch.inference_mode()
def _logits(
    model: DiagnosisModel, dataset: StudyDataset, preprocessing: Preprocessing, recipe: Recipe, device: torch.device
) -> tuple[dict[str, npt.NDArray], dict[Modality, npt.NDArray]]:
    fused: dict[str, list[npt.NDArray]] = defaultdict(list)
    opinions: dict[Modality, list[npt.NDArray]] = defaultdict(list)
    for batch in study_loader(dataset, preprocessing, recipe):
        tokens = model.encode(batch.to(device, non_blocking=True))
        for key, logits in model.subsets(tokens).items():
            fused[key].append(logits.cpu().numpy())
        for modality, logits in model.opinions(tokens).items():
            opinions[modality].append(logits.cpu().numpy())
    joined = {key: np.concatenate(parts) for key, parts in fused.items()}
    return joined, {modality: np.concatenate(parts) for modality, parts in opinions.items()}


def _where(heard: npt.NDArray[np.bool_], logits: npt.NDArray) -> npt.NDArray[np.float64]:
    return np.where(heard[:, None], logits.astype(np.float64), np.nan)
