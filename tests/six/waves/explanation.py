"""Which windows of a wave are evidence for a finding."""

from __future__ import annotations

import numpy as np
import torch

from consilium.explain.methods import FAST, THOROUGH, Method, ModalityExplanation
from consilium.modalities.part import MASK
from waves import LETTERS
from waves.preparation import WINDOWS
from waves.presentation import WindowWeight


def made(name: str) -> ModalityExplanation:
    """The explanation of the modality called `name`."""

    def gradient_x_window(case, positions):
        windows = case.traced[name].detach()
        return np.stack([(windows * case.gradients(p)[name]).sum(-1)[0].double().cpu().numpy() for p in positions])

    def keeping(case, kept):
        windows = case.batch.inputs[name][WINDOWS]
        mask = torch.from_numpy(np.asarray(kept)).to(windows.device)

        def encode(rows):
            there = mask[rows]
            return case.model.encoders[name]({WINDOWS: windows.expand(len(there), -1, -1), MASK: there})

        return case.log_odds_of_copies(name, encode, len(mask))

    def attributions(case, weights):
        return tuple(WindowWeight(number, float(weight)) for number, weight in enumerate(weights))

    return ModalityExplanation(
        methods=(Method("gradient_x_window", gradient_x_window, fast=True),),
        defaults={FAST: "gradient_x_window", THOROUGH: "gradient_x_window"},
        units=lambda prepared, preprocessing: list(range(len(prepared.parts[name].arrays[WINDOWS]))),
        attributions=attributions,
        log_odds_keeping=keeping,
    )


for letter in LETTERS:
    globals()[f"EXPLANATION_{letter}"] = made(f"wave_{letter}")
