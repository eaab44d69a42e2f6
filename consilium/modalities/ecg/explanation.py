"""Which stretches of which leads, and how much the rhythm, are evidence for a finding.

The units of a recording are windows of a fifth of a second of each lead, and its rhythm as a whole. They are weighed
against a flat line, and against a regular rhythm of 75 beats a minute.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from consilium.explain.case import Case, Floats
from consilium.explain.methods import FAST, THOROUGH, Method, ModalityExplanation
from consilium.modalities.ecg.beats import RHYTHM
from consilium.modalities.ecg.ecg_converter import SAMPLES
from consilium.modalities.ecg.encoder import entry_of
from consilium.modalities.ecg.files.signals import LEADS
from consilium.modalities.ecg.presentation import EcgEvidence
from consilium.modalities.signals.entry_methods import EntryMethods
from consilium.preprocessing.batch import Prepared
from consilium.preprocessing.collate import Preprocessing

ECG = "ecg"
WINDOW_SECONDS = 0.2
_Unit = tuple[int, int, int]
"""Recording, lead and window; the lead behind the last one is the rhythm."""


def _window(case: Case) -> tuple[int, int]:
    """Samples of a window, and windows of a lead."""
    converter = case.preprocessing.preparations[ECG].convert
    window = round(WINDOW_SECONDS * converter.rate)
    return window, -(-converter.shape[1] // window)


def _summed(case: Case, weights: Tensor) -> Floats:
    """Weights [1, R, 12 T + 8] by unit, [U]."""
    window, windows = _window(case)
    found = weights[0].double().cpu()
    samples, rhythm = found[:, : -len(RHYTHM)], found[:, -len(RHYTHM) :]
    leads = samples.reshape(len(samples), len(LEADS), -1)
    leads = torch.nn.functional.pad(leads, (0, window * windows - leads.shape[-1]))
    by_window = leads.reshape(*leads.shape[:-1], windows, window).sum(dim=-1).flatten(1)
    summed: Floats = torch.cat([by_window, rhythm.sum(dim=-1, keepdim=True)], dim=1).flatten().numpy()
    return summed


def _spread(case: Case, kept: Tensor) -> Tensor:
    """Units kept [N, U] by entry, float [N, R, 12 T + 8]."""
    window, windows = _window(case)
    length = case.batch.inputs[ECG][SAMPLES].shape[-1]
    rows = kept.float().reshape(len(kept), -1, len(LEADS) * windows + 1)
    leads = (
        rows[..., :-1].reshape(*rows.shape[:-1], len(LEADS), windows).repeat_interleave(window, dim=-1)[..., :length]
    )
    return torch.cat([leads.flatten(2), rows[..., -1:].expand(-1, -1, len(RHYTHM))], dim=-1)


def _units(prepared: Prepared, preprocessing: Preprocessing) -> list[_Unit]:
    converter = preprocessing.preparations[ECG].convert
    windows = -(-converter.shape[1] // round(WINDOW_SECONDS * converter.rate))
    places = [(lead, window) for lead in range(len(LEADS)) for window in range(windows)]
    return [
        (recording, lead, window)
        for recording in range(len(prepared.parts[ECG].arrays[SAMPLES]))
        for lead, window in (*places, (len(LEADS), 0))
    ]


def _attributions(case: Case, weights: npt.NDArray) -> tuple[EcgEvidence, ...]:
    _, windows = _window(case)
    part = case.prepared.parts[ECG]
    found = []
    for number, own in enumerate(weights.reshape(len(part.arrays[SAMPLES]), -1)):
        samples = part.arrays[SAMPLES][number]
        leads = own[:-1].reshape(len(LEADS), windows)
        there = np.isfinite(samples).any(axis=1)
        found.append(
            EcgEvidence(
                ecg=number,
                start=part.starts[number],
                step=WINDOW_SECONDS,
                leads={
                    lead: tuple(float(x) for x in row)
                    for lead, row, known in zip(LEADS, leads, there, strict=True)
                    if known
                },
                rhythm=float(own[-1]),
            )
        )
    return tuple(found)


_METHODS = EntryMethods(ECG, entry_of, _summed, _spread)

EXPLANATION = ModalityExplanation(
    methods=(
        Method("gradient_x_samples", _METHODS.gradient_x_entry, fast=True),
        Method("integrated_gradients", _METHODS.integrated_gradients),
    ),
    defaults={FAST: "gradient_x_samples", THOROUGH: "integrated_gradients"},
    units=_units,
    attributions=_attributions,
    log_odds_keeping=_METHODS.log_odds_keeping,
)
