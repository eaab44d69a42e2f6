"""A tiny artifact with random weights that tests share."""

from __future__ import annotations

from typing import Any

import numpy as np

from consilium.artifact import Artifact
from consilium.calibration import Calibration, fit_calibration
from consilium.recipe import Recipe
from consilium.study import Modality, nonempty_subsets, subset_key
from tests.consilium.tiny import FINDINGS, tiny_model, tiny_preprocessing, tiny_recipe


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
        present=np.array([[modality in recipe.modalities for modality in Modality]] * 80),
        target_sensitivity=0.9,
        seed=seed,
        bootstrap=20,
    )


def tiny_artifact(seed: int = 0, **sections: Any) -> Artifact:
    """An artifact of `tiny_recipe(**sections)`; another `seed` gives other weights."""
    recipe = tiny_recipe(**sections)
    preprocessing = tiny_preprocessing(recipe)
    model = tiny_model(recipe, preprocessing, seed)
    return Artifact(recipe, FINDINGS, preprocessing, model, tiny_calibration(recipe), {"studies": 30})
