"""Where in the images the evidence lies. Every method gives float32 [P, V, h, w]: P findings, V images of h × w cells.

Values are log-odds per cell: positive speaks for the finding, negative against it. Most methods weigh how an image
differs from another that says nothing. That is the average training image, as it is the average word and the average
patient elsewhere: a finding may show as what is missing, fluid where there should be air, an outline that is lost, and
black, zero activation or a blurred copy have no place for that.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from consilium.explain.case import Case, Floats
from consilium.modalities.image.backbones.backbone import as_map
from consilium.modalities.image.encoder import ImageEncoder
from consilium.modalities.image.letterbox import IMAGES, Letterbox
from consilium.modalities.image.presentation import CellGrid, ImageSaliency
from consilium.modalities.part import MASK
from consilium.modalities.tokens import Inputs, Tokens
from consilium.network.diagnosis_model import DiagnosisModel

IMAGE = "image"

Maps = npt.NDArray[np.float32]

_CELLS = 32
"""Cells a side of the map of integrated gradients, about."""
_STEPS = 8
"""Points of the path that integrated gradients take."""
_OCCLUDED = 16
"""Cells a side of the map of occlusion."""
_WINDOW = 2
"""Cells a side of the window that occlusion covers."""


def image_encoder(model: DiagnosisModel) -> ImageEncoder:
    """The image encoder of a model that has one."""
    encoder = model.encoders[IMAGE]
    assert isinstance(encoder, ImageEncoder)
    return encoder


def fine_stage(model: DiagnosisModel) -> nn.Module:
    """Where the map passes that saliency is read from."""
    backbone = image_encoder(model).backbone
    return backbone.taps[backbone.fine]


def last_stage(model: DiagnosisModel) -> nn.Module:
    """Where the map passes that becomes tokens."""
    return image_encoder(model).backbone.taps[-1]


def stage_map(case: Case, stage: nn.Module) -> Tensor:
    """The map [V, C, h, w] that passed `stage`, which was watched."""
    return as_map(case.traced[stage].detach())


def stage_gradient(case: Case, stage: nn.Module, position: int) -> Tensor:
    """The gradient of a finding's log-odds at `stage_map`."""
    return as_map(case.gradients(position)[stage])


def image_saliency(cells: Maps, letterboxes: Sequence[Letterbox]) -> tuple[ImageSaliency, ...]:
    """Maps [V, h, w] over the model's squares in the pixels of the V original files."""
    return tuple(
        ImageSaliency(
            number,
            box.backward(cells[number]),
            (int(cells.shape[1]), int(cells.shape[2])),
            CellGrid(cells[number], box.place),
        )
        for number, box in enumerate(letterboxes)
    )


def gradient_x_activation(case: Case, positions: Sequence[int]) -> Maps:
    """Gradient × (activation - activation of the average image) at the fine stage, summed over channels.

    The first-order share of each cell in what sets the image apart. For a ViT the map lies before its last block, so
    that the gradient has passed through the attention that gathers it.
    """
    stage = fine_stage(case.model)
    with torch.no_grad():
        apart = stage_map(case, stage) - image_encoder(case.model).typical_map()
    return _stacked([(apart * stage_gradient(case, stage, p)).sum(dim=1) for p in positions])


def grad_cam(case: Case, positions: Sequence[int]) -> Maps:
    """Channels of the last stage, weighted by their mean gradient (Selvaraju et al. 2017, equations 1 and 2).

    The paper's last step, a rectifier, is left to the reader: the positive part is its map, the negative part what
    speaks against the finding.
    """
    stage = last_stage(case.model)
    maps = stage_map(case, stage)
    weights = [stage_gradient(case, stage, p).mean(dim=(2, 3), keepdim=True) for p in positions]
    return _stacked([(maps * weight).sum(dim=1) for weight in weights])


def layer_cam(case: Case, positions: Sequence[int]) -> Maps:
    """Activation of the fine stage weighted by positive gradients, cell by cell (Jiang et al. 2021, equations 5 and 6).

    Shows what speaks for the finding only.
    """
    stage = fine_stage(case.model)
    maps = stage_map(case, stage)
    return _stacked([(maps * stage_gradient(case, stage, p).clamp(min=0)).sum(dim=1).clamp(min=0) for p in positions])


def integrated_gradients(case: Case, positions: Sequence[int]) -> Maps:
    """The gradient's mean along the straight line from the average image to the image, times their difference.

    Summed over the pixels of each cell, so that all cells together add up to what the image changed (Sundararajan et
    al. 2017; on the choice of the line's beginning Sturmfels et al. 2020).
    """
    inputs = case.batch.inputs[IMAGE]
    images, mask = inputs[IMAGES], inputs[MASK]
    apart = images - reference_images(case)
    share = ((torch.arange(_STEPS, device=images.device) + 0.5) / _STEPS)[:, None, None, None, None]
    with torch.enable_grad():
        path = (images - (1 - share) * apart).requires_grad_()
        tokens = image_encoder(case.model)(_with_images(inputs, path))
        fused = case.fuse_with(IMAGE, tokens)
    found = []
    for position in positions:
        target = (fused * case.direction(fused, position)).sum()
        (slope,) = torch.autograd.grad(target, path, retain_graph=True)
        pixels = (slope.mean(dim=0, keepdim=True) * apart)[mask]
        cell = cell_pixels(images.shape[-1])
        found.append(F.avg_pool2d(pixels, cell)[:, 0] * cell**2)
    return _stacked(found)


def occlusion(case: Case, positions: Sequence[int]) -> Maps:
    """What the log-odds lose when a window shows the average image, shared among its cells (Zeiler and Fergus 2014)."""
    images = case.batch.inputs[IMAGE][IMAGES]
    side = images.shape[-1]
    hidden, whole = reference_images(case), case.log_odds(case.fused)[0]
    spans = [slice(max(start, 0), start + _WINDOW) for start in range(1 - _WINDOW, _OCCLUDED)]
    maps = np.zeros((len(whole), images.shape[1], _OCCLUDED, _OCCLUDED), np.float32)
    for view, rows in product(range(images.shape[1]), spans):
        altered = images.repeat(len(spans), 1, 1, 1, 1)
        for copy, columns in zip(altered, spans, strict=True):
            window = (view, 0, _pixels(rows, side), _pixels(columns, side))
            copy[window] = hidden[0][window]
        lost = whole - log_odds_of_images(case, altered)
        for change, columns in zip(lost, spans, strict=True):
            maps[:, view, rows, columns] += change[:, None, None] / _WINDOW**4
    return maps[list(positions)]


def _pixels(cells: slice, side: int) -> slice:
    """Those of `cells`; the last cells are larger or smaller by a pixel where their number does not divide `side`."""
    return slice(round(cells.start * side / _OCCLUDED), min(round(cells.stop * side / _OCCLUDED), side))


def cell_pixels(side: int) -> int:
    """Side of the cells that a square of `side` pixels is divided into, about `_CELLS` of them: a divisor of it."""
    return min((size for size in range(1, side + 1) if side % size == 0), key=lambda size: abs(side / size - _CELLS))


def log_odds_of_images(case: Case, images: Tensor) -> Floats:
    """Calibrated log-odds [N, F] with other pixels, float [N, V, 1, S, S] in [0, 1]."""
    encoder, inputs = image_encoder(case.model), case.batch.inputs[IMAGE]

    def encode(rows: slice) -> Tokens:
        tokens: Tokens = encoder(_with_images(inputs, images[rows]))
        return tokens

    return case.log_odds_of_copies(IMAGE, encode, len(images))


def _with_images(inputs: Inputs, images: Tensor) -> Inputs:
    """The `inputs` of one study, repeated, with other `images` [N, V, 1, S, S]."""
    return {name: tensor.expand(len(images), *tensor.shape[1:]) for name, tensor in inputs.items()} | {IMAGES: images}


def reference_images(case: Case) -> Tensor:
    """The average training image in place of each of the study's, float [1, V, 1, S, S]."""
    return image_encoder(case.model).typical.expand_as(case.batch.inputs[IMAGE][IMAGES])


def _stacked(maps: Sequence[Tensor]) -> Maps:
    return torch.stack(list(maps)).float().cpu().numpy()
