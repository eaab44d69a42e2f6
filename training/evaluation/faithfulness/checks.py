"""Checks that need no truth: against a model that has learned nothing, and under a little noise."""

from __future__ import annotations

from copy import deepcopy

import numpy as np
import torch

from consilium.domain.findings import FindingSet
from consilium.network.diagnosis_model import DiagnosisModel
from consilium.preprocessing.batch import Prepared
from consilium.preprocessing.collate import Preprocessing
from training.training_side import training_side


def untrained(model: DiagnosisModel, preprocessing: Preprocessing, findings: FindingSet, seed: int) -> DiagnosisModel:
    """A model of the same architecture that has learned nothing, on the same device."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        fresh = DiagnosisModel(preprocessing.recipe, findings, preprocessing, pretrained=False)
    return fresh.to(next(model.parameters()).device).eval().requires_grad_(requires_grad=False)


def with_noisy_weights(model: DiagnosisModel, seed: int) -> DiagnosisModel:
    """A copy of `model` whose encoders read a little otherwise, where noise on their inputs could not do that."""
    noisy = deepcopy(model)
    for modality, encoder in noisy.encoders.items():
        training_side(modality).disturb_encoder(encoder, seed)
    return noisy


def with_noise(prepared: Prepared, seed: tuple[int, int]) -> Prepared:
    """`prepared` with a little noise on the numbers of every modality; what has no numbers stays."""
    generator = np.random.default_rng(seed)
    for modality, part in prepared.parts.items():
        prepared = prepared.with_arrays(modality, **training_side(modality).noisy(part.arrays, generator))
    return prepared
