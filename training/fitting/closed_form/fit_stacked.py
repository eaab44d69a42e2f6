"""The closed form as a `DiagnosisModel`: features from its encoders, the fit, and its numbers as weights."""

from __future__ import annotations

import logging
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from consilium.configuration.recipe import Recipe
from consilium.domain.errors import TrainingError
from consilium.domain.findings import FindingSet
from consilium.modalities.tokens import DenseEncoder, Encoder
from consilium.network.diagnosis_model import DiagnosisModel
from consilium.network.fusion.stacked import StackedFusion
from consilium.network.whitening import Whitening
from consilium.preprocessing.collate import Preprocessing
from training.data.cached_cohort import CachedCohort
from training.data.datamodule import StudyDataset, study_loader
from training.data.feature_cache import feature_caches
from training.fitting.closed_form.linear_head import LinearHead
from training.fitting.closed_form.nested import ClosedForm, fit_closed_form
from training.fitting.fit import Fit, observe
from training.fitting.lightning_module import build_model

_log = logging.getLogger(__name__)

Indices = npt.NDArray[np.int64]


def fit_stacked(cached: CachedCohort, recipe: Recipe, train: Indices) -> Fit:
    """Fit a model with the fusion ``stacked`` on the studies at `train`, without gradient descent.

    The encoders keep the weights that they begin with. It takes as long as they take to read the studies, so nothing
    of it is kept to be resumed.

    Raises
    ------
    TrainingError
        No study can be read, the cohort has targets beside its findings, or as `fit_closed_form`.
    """
    require_findings_alone(cached.cohort.findings)
    preprocessing = cached.preprocessing(recipe, train.tolist())
    model = build_model(recipe, cached.cohort.findings, preprocessing).eval()
    dataset = StudyDataset(cached, preprocessing, train, feature_caches(model, preprocessing))
    if not np.isfinite(dataset.labels).any():
        raise TrainingError("the training split has no readable study with a known label")
    for name, encoder in model.encoders.items():
        if isinstance(encoder, DenseEncoder):
            observe(encoder, name, dataset, preprocessing, recipe)
    patient_ids = np.array([cached.cohort.records[row].patient_id for row in dataset.rows])
    found = fit_closed_form(
        _features(model, dataset, preprocessing, recipe),
        dataset.labels,
        patient_ids,
        recipe.training.closed_form,
        width=recipe.fusion.width,
        exclusive=cached.cohort.findings.exclusive,
        seed=recipe.seed,
        one_scale=[name for name, encoder in model.encoders.items() if cast(Encoder, encoder).one_scale],
    )
    write_weights(model, found)
    return Fit(model, preprocessing, epochs=0, steps=0, validation_loss=None, parameters=model.parameter_counts())


def require_findings_alone(findings: FindingSet) -> None:
    """`TrainingError` where there are targets beside the findings, which the closed form does not learn."""
    if findings.targets:
        named = ", ".join(target.name for target in findings.targets)
        raise TrainingError(
            f"the fusion stacked answers findings alone, and the cohort has the targets {named}: take another fusion, "
            "or set objectives.targets to 0"
        )


@torch.inference_mode()
def _features(
    model: DiagnosisModel, dataset: StudyDataset, preprocessing: Preprocessing, recipe: Recipe
) -> dict[str, npt.NDArray[np.float32]]:
    """Mean over the tokens of every study, [n, K of each encoder]; NaN where the modality is absent."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model.to(device)
    found: dict[str, list[Tensor]] = {name: [] for name in model.modalities}
    for batch in study_loader(dataset, preprocessing, recipe):
        here = batch.to(device)
        for name, encoder in model.encoders.items():
            tokens = encoder(here.inputs[name])
            found[name].append(tokens.mean().masked_fill(~tokens.present[:, None], torch.nan).cpu())
    model.cpu()
    return {name: torch.cat(values).numpy() for name, values in found.items()}


def write_weights(model: DiagnosisModel, fitted: ClosedForm) -> None:
    """Give `model` the numbers of `fitted`: whitening, the modalities' own heads, and their stack as one head."""
    fusion = model.fusion
    assert isinstance(fusion, StackedFusion)
    with torch.no_grad():
        model.head.weight.zero_()
        model.head.bias.copy_(_tensor(fitted.stack.prior))
        for modality, head in fitted.heads.items():
            _whiten(model.whitening[modality], head)
            own, kept = cast(nn.Linear, model.heads[modality]), head.weight.shape[1]
            own.weight.zero_()
            own.weight[:, :kept] = _tensor(head.weight)
            own.bias.copy_(_tensor(head.bias))
            weight = fitted.stack.weights[modality]
            columns = model.head.weight[:, fusion.columns(modality)]
            columns[:, :kept] = _tensor(weight[:, None] * head.weight)
            columns[:, -1] = _tensor(weight * (head.bias - head.prior))


def _whiten(module: nn.Module, head: LinearHead) -> None:
    assert isinstance(module, Whitening)
    projection = head.projection
    module.mean.copy_(_tensor(projection.mean))
    module.scale.copy_(_tensor(projection.scale))
    module.components.zero_()
    module.components[: len(projection.components)] = _tensor(projection.components)


def _tensor(values: npt.NDArray) -> Tensor:
    return torch.from_numpy(np.asarray(values, np.float32))
