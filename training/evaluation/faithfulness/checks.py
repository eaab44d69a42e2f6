"""Checks that need no truth: against a model that has learned nothing, and under a little noise."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy

import numpy as np
import torch

from consilium.domain.findings import FindingSet
from consilium.modalities.part import Array
from consilium.modalities.text.encoder import TextEncoder
from consilium.network.diagnosis_model import DiagnosisModel
from consilium.preprocessing.batch import Prepared
from consilium.preprocessing.collate import Preprocessing

Arrays = Mapping[str, Array]

IMAGE_NOISE = 0.01
"""Standard deviation of the noise on pixels, of the full range."""
VALUE_NOISE = 0.05
"""On values, in standard deviations of the training studies."""
WORD_NOISE = 0.05
"""On word embeddings, in standard deviations of the vocabulary's."""
OTHER_NOISE = 0.05
"""On the numbers of any other modality, in standard deviations of the study's own."""
RANDOM_CELLS = {"image": (16, 16)}
"""Shape of a random weight of one unit, of modalities whose weights are maps; these are drawn last."""

_WHITE = 65535


def untrained(model: DiagnosisModel, preprocessing: Preprocessing, findings: FindingSet, seed: int) -> DiagnosisModel:
    """A model of the same architecture that has learned nothing, on the same device."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        fresh = DiagnosisModel(preprocessing.recipe, findings, preprocessing, pretrained=False)
    return fresh.to(next(model.parameters()).device).eval().requires_grad_(requires_grad=False)


def with_noisy_weights(model: DiagnosisModel, seed: int) -> DiagnosisModel:
    """A copy of `model` that reads every word a little otherwise: what its inputs cannot be disturbed by."""
    noisy = deepcopy(model)
    for encoder in noisy.encoders.values():
        if isinstance(encoder, TextEncoder):
            weights = encoder.model.get_input_embeddings().weight.detach()
            noise = torch.randn(weights.shape, generator=torch.Generator().manual_seed(seed)).to(weights)
            weights.add_(noise, alpha=WORD_NOISE * float(weights.std()))
    return noisy


def with_noise(prepared: Prepared, seed: tuple[int, int]) -> Prepared:
    """`prepared` with a little noise on the numbers of every modality; words have none."""
    generator = np.random.default_rng(seed)
    for modality, part in prepared.parts.items():
        changed = _NOISE.get(modality, _noisy_numbers)(part.arrays, generator)
        prepared = prepared.with_arrays(modality, **changed)
    return prepared


def _noisy_images(arrays: Arrays, generator: np.random.Generator) -> Arrays:
    images = arrays["images"]
    pixels = images + generator.normal(0, IMAGE_NOISE * _WHITE, images.shape)
    return {"images": np.clip(np.rint(pixels), 0, _WHITE).astype(np.uint16)}


def _no_noise(arrays: Arrays, generator: np.random.Generator) -> Arrays:
    del arrays, generator
    return {}


def _noisy_values(arrays: Arrays, generator: np.random.Generator) -> Arrays:
    numbers = arrays["numbers"]
    return {"numbers": (numbers + generator.normal(0, VALUE_NOISE, numbers.shape)).astype(np.float32)}


def _noisy_numbers(arrays: Arrays, generator: np.random.Generator) -> Arrays:
    found = {}
    for name, array in arrays.items():
        if array.size and np.issubdtype(array.dtype, np.floating):
            noise = generator.normal(0, OTHER_NOISE * float(np.nanstd(array)), array.shape)
            found[name] = (array + noise).astype(array.dtype)
    return found


_NOISE: Mapping[str, Callable[[Arrays, np.random.Generator], Arrays]] = {
    "image": _noisy_images,
    "text": _no_noise,
    "observations": _noisy_values,
}
"""How the arrays of a modality are disturbed, where not as numbers in general."""
