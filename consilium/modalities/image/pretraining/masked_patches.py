"""Masked image modelling: cells of an image are hidden, and the tokens that stand there must tell what they showed.

As SimMIM (Xie et al., CVPR 2022): the encoder reads the whole square with the hidden cells filled, and a linear layer
predicts; so it holds for networks of convolutions as well as for transformers. Hidden cells are filled with the average
training image, so that the average which the encoder remembers stays what it is.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from consilium.domain.errors import InputError
from consilium.modalities.draws import Draws
from consilium.modalities.image.encoder import ImageEncoder
from consilium.modalities.image.letterbox import IMAGES
from consilium.modalities.image.preparation import ImagePreparation
from consilium.modalities.image.section import ImageSection
from consilium.modalities.part import MASK
from consilium.modalities.pretraining.self_supervision import SelfSupervision
from consilium.modalities.tokens import Encoder, FusionShape, Inputs

_SHARE = 0.6
"""Of the cells that are hidden, as in the paper."""
_DETAIL = 8
"""Points a side that are predicted of each cell: means over its pixels."""
_CELLS = ("linear", "mlp", "grid")
"""Connectors of which every token is a cell of a map."""
_LEAST_SPREAD = 1e-3


class MaskedPatches(SelfSupervision):
    """Predicts the grey levels of hidden cells, standardised over each image.

    Parameters
    ----------
    width : int
        Of the encoder's tokens.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.head = nn.Linear(width, _DETAIL**2)

    @classmethod
    def build(cls, section: ImageSection, preparation: ImagePreparation, fusion: FusionShape) -> MaskedPatches:
        del preparation
        if section.connector.name not in _CELLS or fusion.linear:
            rule = f"needs tokens that are cells of a map: a connector of {', '.join(_CELLS)}, and no linear fusion"
            raise InputError("pretraining.objectives", "masked_patches", rule)
        return cls(fusion.width)

    def forward(self, encoder: Encoder, inputs: Inputs, draws: Draws) -> tuple[Tensor, Tensor]:
        assert isinstance(encoder, ImageEncoder)
        images, mask, cells = inputs[IMAGES], inputs[MASK], encoder.token_cells
        # View by view, as the augmentation: what is drawn for a study depends on no other study.
        drawn = torch.stack([draws.uniform(cells, cells) for _ in range(mask.shape[1])], dim=1)
        hidden = (drawn < _SHARE) & mask[..., None, None]
        covered = _enlarged(hidden, images.shape[-1])
        tokens = encoder({**inputs, IMAGES: torch.where(covered, encoder.typical, images)})
        predicted = self.head(torch.unflatten(tokens.values, 1, (*mask.shape[1:], cells**2))).float()
        error = (predicted - _targets(images.float(), cells)).square().mean(dim=-1)
        asked = hidden.flatten(2)
        return torch.where(asked, error, 0.0).sum(), asked.sum().float()


def _enlarged(hidden: Tensor, side: int) -> Tensor:
    """Cells `hidden`, bool [B, V, c, c], as pixels of a square, bool [B, V, 1, S, S]."""
    whole = F.interpolate(hidden.flatten(0, 1)[:, None].float(), size=(side, side), mode="nearest")
    return torch.unflatten(whole.bool(), 0, hidden.shape[:2])


def _targets(images: Tensor, cells: int) -> Tensor:
    """What is predicted of `images` [B, V, 1, S, S], [B, V, c·c, P], with the cells and the points of each in rows."""
    flat = images.flatten(0, 1)
    spread, mean = torch.std_mean(flat, dim=(1, 2, 3), correction=0, keepdim=True)
    points = F.adaptive_avg_pool2d((flat - mean) / spread.clamp(min=_LEAST_SPREAD), cells * _DETAIL)
    cut = F.unfold(points, _DETAIL, stride=_DETAIL).transpose(1, 2)
    return torch.unflatten(cut, 0, images.shape[:2])
