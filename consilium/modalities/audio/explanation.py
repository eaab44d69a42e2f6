"""Which frequencies at which times, and how much what repeats, are evidence for a finding.

The units of a sound are fifths of a second of eight groups of bands, and its cycle as a whole. They are weighed against
the sound's own mean loudness, and against a regular cycle of 75 a minute.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from consilium.explain.case import Case, Floats
from consilium.explain.methods import FAST, THOROUGH, Method, ModalityExplanation
from consilium.modalities.audio.band_groups import GROUPS, group_edges, group_hertz
from consilium.modalities.audio.cycle import CYCLE
from consilium.modalities.audio.encoder import entry_of, parted
from consilium.modalities.audio.presentation import SoundEvidence
from consilium.modalities.audio.sound_converter import SPECTRA, SoundConverter
from consilium.modalities.signals.entry_methods import EntryMethods
from consilium.preprocessing.batch import Prepared
from consilium.preprocessing.collate import Preprocessing

AUDIO = "audio"
WINDOW_SECONDS = 0.2
_Unit = tuple[int, int, int]
"""Sound, group of bands and window; the group behind the last one is the cycle."""


def _converter(preprocessing: Preprocessing) -> SoundConverter:
    found: SoundConverter = preprocessing.preparations[AUDIO].convert
    return found


def _windows(converter: SoundConverter) -> npt.NDArray[np.int64]:
    """The window in which each frame begins, [F]."""
    return (np.arange(converter.shape[1]) * converter.step / WINDOW_SECONDS + 1e-9).astype(np.int64)


def _cells(case: Case) -> tuple[Tensor, int]:
    """Which cell of groups by windows each band and frame lies in, int64 [M F], and how many windows there are."""
    converter = _converter(case.preprocessing)
    windows = _windows(converter)
    count = int(windows[-1]) + 1
    edges = group_edges(converter.shape[0])
    groups = np.repeat(np.arange(GROUPS), np.diff(edges))
    return torch.from_numpy((groups[:, None] * count + windows).ravel()), count


def _summed(case: Case, weights: Tensor) -> Floats:
    """Weights [1, R, M F + 4] by unit, [U]."""
    cells, windows = _cells(case)
    spectra, cycle = parted(weights[0].double().cpu(), _converter(case.preprocessing).shape[0])
    by_cell = torch.zeros(len(spectra), GROUPS * windows, dtype=torch.float64)
    by_cell.index_add_(1, cells, spectra.flatten(1))
    summed: Floats = torch.cat([by_cell, cycle.sum(dim=-1, keepdim=True)], dim=1).flatten().numpy()
    return summed


def _spread(case: Case, kept: Tensor) -> Tensor:
    """Units kept [N, U] by entry, float [N, R, M F + 4]."""
    cells, windows = _cells(case)
    rows = kept.float().reshape(len(kept), -1, GROUPS * windows + 1)
    spectra = rows[..., :-1][..., cells.to(rows.device)]
    return torch.cat([spectra, rows[..., -1:].expand(-1, -1, len(CYCLE))], dim=-1)


def _units(prepared: Prepared, preprocessing: Preprocessing) -> list[_Unit]:
    windows = int(_windows(_converter(preprocessing))[-1]) + 1
    places = [(group, window) for group in range(GROUPS) for window in range(windows)]
    return [
        (sound, group, window)
        for sound in range(len(prepared.parts[AUDIO].arrays[SPECTRA]))
        for group, window in (*places, (GROUPS, 0))
    ]


def _attributions(case: Case, weights: npt.NDArray) -> tuple[SoundEvidence, ...]:
    converter, part = _converter(case.preprocessing), case.prepared.parts[AUDIO]
    hertz = group_hertz(converter.low, converter.high, converter.shape[0])
    sounds = weights.reshape(len(part.arrays[SPECTRA]), -1)
    return tuple(
        SoundEvidence(
            sound=number,
            start=part.starts[number],
            step=WINDOW_SECONDS,
            hertz=hertz,
            bands=tuple(tuple(float(x) for x in row) for row in own[:-1].reshape(GROUPS, -1)),
            cycle=float(own[-1]),
        )
        for number, own in enumerate(sounds)
    )


_METHODS = EntryMethods(AUDIO, entry_of, _summed, _spread)

EXPLANATION = ModalityExplanation(
    methods=(
        Method("gradient_x_spectrum", _METHODS.gradient_x_entry, fast=True),
        Method("integrated_gradients", _METHODS.integrated_gradients),
    ),
    defaults={FAST: "gradient_x_spectrum", THOROUGH: "integrated_gradients"},
    units=_units,
    attributions=_attributions,
    log_odds_keeping=_METHODS.log_odds_keeping,
)
