"""Checks that need no truth: against a model that has learned nothing, and under a little noise."""

from __future__ import annotations

from copy import deepcopy

import numpy as np
import torch

from consilium.domain.findings import FindingSet
from consilium.modalities.text.encoder import TextEncoder
from consilium.network.diagnosis_model import DiagnosisModel
from consilium.preprocessing.batch import Prepared
from consilium.preprocessing.collate import Preprocessing

IMAGE_NOISE = 0.01
"""Standard deviation of the noise on pixels, of the full range."""
VALUE_NOISE = 0.05
"""On values, in standard deviations of the training studies."""
WORD_NOISE = 0.05
"""On word embeddings, in standard deviations of the vocabulary's."""

_WHITE = 65535


def untrained(model: DiagnosisModel, preprocessing: Preprocessing, findings: FindingSet, seed: int) -> DiagnosisModel:
    """A model of the same architecture that has learned nothing, on the same device."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        fresh = DiagnosisModel(preprocessing.recipe, findings, preprocessing, pretrained=False)
    return fresh.to(next(model.parameters()).device).eval().requires_grad_(requires_grad=False)


def with_noisy_words(model: DiagnosisModel, seed: int) -> DiagnosisModel:
    """A copy of `model` that sees every word a little otherwise."""
    noisy = deepcopy(model)
    if "text" in noisy.encoders:
        encoder = noisy.encoders["text"]
        assert isinstance(encoder, TextEncoder)
        weights = encoder.model.get_input_embeddings().weight.detach()
        noise = torch.randn(weights.shape, generator=torch.Generator().manual_seed(seed)).to(weights)
        weights.add_(noise, alpha=WORD_NOISE * float(weights.std()))
    return noisy


def with_noise(prepared: Prepared, seed: tuple[int, int]) -> Prepared:
    """`prepared` with noise on its pixels and values."""
    generator = np.random.default_rng(seed)
    if "image" in prepared.parts:
        images = prepared.parts["image"].arrays["images"]
        pixels = images + generator.normal(0, IMAGE_NOISE * _WHITE, images.shape)
        prepared = prepared.with_arrays("image", images=np.clip(np.rint(pixels), 0, _WHITE).astype(np.uint16))
    if "observations" in prepared.parts:
        numbers = prepared.parts["observations"].arrays["numbers"]
        values = numbers + generator.normal(0, VALUE_NOISE, numbers.shape)
        prepared = prepared.with_arrays("observations", numbers=values.astype(np.float32))
    return prepared
