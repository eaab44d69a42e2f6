"""Which windows of a pulse wave are evidence for a finding."""

from __future__ import annotations

import numpy as np
import torch

from consilium.explain.methods import FAST, THOROUGH, Method, ModalityExplanation
from consilium.modalities.part import MASK
from pulse.preparation import WINDOWS
from pulse.presentation import WindowWeight


def gradient_x_window(case, positions):
    windows = case.traced["pulse"].detach()
    return np.stack([(windows * case.gradients(p)["pulse"]).sum(-1)[0].double().cpu().numpy() for p in positions])


def leave_one_out(case, positions):
    without = keeping(case, ~np.eye(len(case.units["pulse"]), dtype=bool))
    return (case.log_odds(case.fused) - without)[:, list(positions)].T


def keeping(case, kept):
    windows = case.batch.inputs["pulse"][WINDOWS]
    mask = torch.from_numpy(np.asarray(kept)).to(windows.device)

    def encode(rows):
        there = mask[rows]
        return case.model.encoders["pulse"]({WINDOWS: windows.expand(len(there), -1, -1), MASK: there})

    return case.log_odds_of_copies("pulse", encode, len(mask))


def _units(prepared, preprocessing):
    return list(range(len(prepared.parts["pulse"].arrays[WINDOWS])))


def _attributions(case, weights):
    return tuple(WindowWeight(number, float(weight)) for number, weight in enumerate(weights))


EXPLANATION = ModalityExplanation(
    methods=(
        Method("gradient_x_window", gradient_x_window, fast=True),
        Method("leave_one_out", leave_one_out),
    ),
    defaults={FAST: "gradient_x_window", THOROUGH: "leave_one_out"},
    units=_units,
    attributions=_attributions,
    log_odds_keeping=keeping,
)
