"""Where in a volume the evidence for a finding lies.

The units are cells of what the model read, at most eight a side. They are weighed against the average training volume.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from consilium.explain.case import Case, Floats
from consilium.explain.methods import FAST, THOROUGH, Method, ModalityExplanation
from consilium.modalities.volume.encoder import CellEncoder, VolumeEncoder
from consilium.modalities.volume.presentation import VolumeSaliency
from consilium.modalities.volume.volume_converter import VOLUMES
from consilium.preprocessing.batch import Prepared
from consilium.preprocessing.collate import Preprocessing

VOLUME = "volume"
_MOST_CELLS = 8
_STEPS = 8
_Unit = tuple[int, int, int, int]
"""Volume, and depth, row and column of the cell."""


def gradient_x_difference(case: Case, positions: Sequence[int]) -> Floats:
    """Gradient × what differs from the average training volume."""
    entry = case.traced[VOLUME].detach()
    difference = entry - _encoder(case).typical.volume
    return np.stack([_by_cell(difference * case.gradients(p)[VOLUME]) for p in positions])


def integrated_gradients(case: Case, positions: Sequence[int]) -> Floats:
    """Mean gradient on the way from the average training volume × the difference (Sundararajan et al. 2017)."""
    inputs, encoder = case.batch.inputs[VOLUME], _encoder(case)
    typical = encoder.typical.volume
    difference = inputs[VOLUMES] - typical
    total = [torch.zeros_like(difference) for _ in positions]
    for step in range(_STEPS):
        with torch.enable_grad():
            at = (typical + difference * ((step + 0.5) / _STEPS)).requires_grad_()
            fused = case.fuse_with(VOLUME, encoder({**inputs, VOLUMES: at}))
            for row, position in enumerate(positions):
                target = (fused * case.direction(fused, position)).sum()
                total[row] += torch.autograd.grad(target, at, retain_graph=True)[0] / _STEPS
    return np.stack([_by_cell(difference * mean) for mean in total])


def log_odds_keeping(case: Case, kept: npt.NDArray[np.bool_]) -> Floats:
    """Log-odds [N, F] of copies that are average where their cells are not `kept` (bool [N, U])."""
    inputs, encoder = case.batch.inputs[VOLUME], _encoder(case)
    volumes, typical = inputs[VOLUMES], encoder.typical.volume
    mask = torch.from_numpy(np.asarray(kept)).to(volumes.device)

    def encode(rows: slice) -> object:
        chosen = mask[rows]
        many = {name: tensor.expand(len(chosen), *tensor.shape[1:]) for name, tensor in inputs.items()}
        altered = typical + (volumes - typical) * _spread(chosen, volumes.shape)
        return encoder({**many, VOLUMES: altered})

    return case.log_odds_of_copies(VOLUME, encode, len(mask))  # type: ignore[arg-type]


def _encoder(case: Case) -> VolumeEncoder | CellEncoder:
    encoder = case.model.encoders[VOLUME]
    assert isinstance(encoder, VolumeEncoder | CellEncoder)
    return encoder


def cell_sides(size: Sequence[int]) -> tuple[int, int, int]:
    """Voxels of a cell along depth, rows and columns of what is read."""
    depth, height, width = (-(-side // _MOST_CELLS) for side in size)
    return depth, height, width


def _counts(size: Sequence[int]) -> tuple[int, int, int]:
    depth, height, width = (-(-side // own) for side, own in zip(size, cell_sides(size), strict=True))
    return depth, height, width


def _by_cell(weights: Tensor) -> npt.NDArray[np.float64]:
    """Weights [1, V, C, D, H, W] by unit, [U]."""
    found = weights[0].sum(dim=1).double()
    size, sides = found.shape[1:], cell_sides(found.shape[1:])
    padding: list[int] = []
    for side, own in zip(reversed(size), reversed(sides), strict=True):
        padding += [0, -side % own]
    padded = F.pad(found, padding)[:, None]
    summed = F.avg_pool3d(padded, sides) * float(np.prod(sides))
    return np.asarray(summed.flatten().cpu().numpy())


def _spread(kept: Tensor, shape: Sequence[int]) -> Tensor:
    """Units kept [N, U] by voxel, float [N, V, 1, D, H, W]."""
    size, sides = shape[-3:], cell_sides(shape[-3:])
    cells = kept.float().reshape(len(kept), shape[1], 1, *_counts(size))
    for axis, (side, own) in enumerate(zip(size, sides, strict=True), start=3):
        cells = cells.repeat_interleave(own, dim=axis).narrow(axis, 0, side)
    return cells


def _units(prepared: Prepared, preprocessing: Preprocessing) -> list[_Unit]:
    size = preprocessing.preparations[VOLUME].convert.size
    depth, height, width = _counts(size)
    return [
        (volume, z, y, x)
        for volume in range(len(prepared.parts[VOLUME].arrays[VOLUMES]))
        for z in range(depth)
        for y in range(height)
        for x in range(width)
    ]


def _attributions(case: Case, weights: npt.NDArray) -> tuple[VolumeSaliency, ...]:
    part = case.prepared.parts[VOLUME]
    size = case.preprocessing.preparations[VOLUME].convert.size
    sides = np.array(cell_sides(size))
    found = []
    for (place, to_voxels, shape), own in zip(part.records, weights.reshape(len(part.records), -1), strict=True):
        to_read = np.linalg.inv(np.vstack([to_voxels, [0, 0, 0, 1]]))[:3]
        to_cells = to_read / sides[:, None]
        to_cells[:, 3] -= (sides - 1) / (2 * sides)
        cells = own.reshape(_counts(size)).astype(np.float32)
        found.append(VolumeSaliency(volume=place, cells=cells, to_cells=to_cells, shape=shape))
    return tuple(found)


EXPLANATION = ModalityExplanation(
    methods=(
        Method("gradient_x_difference", gradient_x_difference, fast=True),
        Method("integrated_gradients", integrated_gradients),
    ),
    defaults={FAST: "gradient_x_difference", THOROUGH: "integrated_gradients"},
    units=_units,
    attributions=_attributions,
    log_odds_keeping=log_odds_keeping,
)
