"""Which stretches of which leads, and how much the rhythm, are evidence for a finding.

The units of a recording are windows of a fifth of a second of each lead, and its rhythm as a whole. They are weighed
against a flat line, and against a regular rhythm of 75 beats a minute.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from consilium.explain.case import Case, Floats
from consilium.explain.methods import FAST, THOROUGH, Method, ModalityExplanation
from consilium.modalities.ecg.beats import RHYTHM
from consilium.modalities.ecg.ecg_converter import SAMPLES
from consilium.modalities.ecg.encoder import EcgEncoder, entry_of
from consilium.modalities.ecg.files.signals import LEADS
from consilium.modalities.ecg.presentation import EcgEvidence
from consilium.preprocessing.batch import Prepared
from consilium.preprocessing.collate import Preprocessing

ECG = "ecg"
WINDOW_SECONDS = 0.2
_STEPS = 16
_Unit = tuple[int, int, int]
"""Recording, lead and window; the lead behind the last one is the rhythm."""


def gradient_x_samples(case: Case, positions: Sequence[int]) -> Floats:
    """Gradient × samples, and × rhythm."""
    entry = case.traced[ECG].detach()
    return np.stack([_summed(case, entry * case.gradients(p)[ECG]) for p in positions])


def integrated_gradients(case: Case, positions: Sequence[int]) -> Floats:
    """Mean gradient on the way from a flat line × samples (Sundararajan et al. 2017)."""
    inputs, encoder = case.batch.inputs[ECG], _encoder(case)
    entry = entry_of(inputs).detach()
    total = [torch.zeros_like(entry) for _ in positions]
    for step in range(_STEPS):
        with torch.enable_grad():
            at = (entry * ((step + 0.5) / _STEPS)).requires_grad_()
            fused = case.fuse_with(ECG, encoder(inputs, at))
            for row, position in enumerate(positions):
                target = (fused * case.direction(fused, position)).sum()
                total[row] += torch.autograd.grad(target, at, retain_graph=True)[0] / _STEPS
    return np.stack([_summed(case, entry * mean) for mean in total])


def log_odds_keeping(case: Case, kept: npt.NDArray[np.bool_]) -> Floats:
    """Log-odds [N, F] of copies that are flat, and regular, where their units are not `kept` (bool [N, U])."""
    inputs, encoder = case.batch.inputs[ECG], _encoder(case)
    entry = entry_of(inputs)
    mask = torch.from_numpy(np.asarray(kept)).to(entry.device)

    def encode(rows: slice) -> object:
        chosen = mask[rows]
        many = {name: tensor.expand(len(chosen), *tensor.shape[1:]) for name, tensor in inputs.items()}
        return encoder(many, entry * _spread(case, chosen))

    return case.log_odds_of_copies(ECG, encode, len(mask))  # type: ignore[arg-type]


def _encoder(case: Case) -> EcgEncoder:
    encoder = case.model.encoders[ECG]
    assert isinstance(encoder, EcgEncoder)
    return encoder


def _window(case: Case) -> tuple[int, int]:
    """Samples of a window, and windows of a lead."""
    converter = case.preprocessing.preparations[ECG].convert
    window = round(WINDOW_SECONDS * converter.rate)
    return window, -(-converter.shape[1] // window)


def _summed(case: Case, weights: Tensor) -> npt.NDArray[np.float64]:
    """Weights [1, R, 12 T + 8] by unit, [U]."""
    window, windows = _window(case)
    found = weights[0].double().cpu()
    samples, rhythm = found[:, : -len(RHYTHM)], found[:, -len(RHYTHM) :]
    leads = samples.reshape(len(samples), len(LEADS), -1)
    leads = torch.nn.functional.pad(leads, (0, window * windows - leads.shape[-1]))
    by_window = leads.reshape(*leads.shape[:-1], windows, window).sum(dim=-1).flatten(1)
    return torch.cat([by_window, rhythm.sum(dim=-1, keepdim=True)], dim=1).flatten().numpy()


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


EXPLANATION = ModalityExplanation(
    methods=(
        Method("gradient_x_samples", gradient_x_samples, fast=True),
        Method("integrated_gradients", integrated_gradients),
    ),
    defaults={FAST: "gradient_x_samples", THOROUGH: "integrated_gradients"},
    units=_units,
    attributions=_attributions,
    log_odds_keeping=log_odds_keeping,
)
