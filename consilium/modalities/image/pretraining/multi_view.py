"""Multi-view: two images of one study, such as frontal and lateral, agree in what they show.

The loss is VICReg's, which needs no negatives: most studies of a batch may have one image.
"""

from __future__ import annotations

import torch
from torch import Tensor

from consilium.modalities.draws import Draws
from consilium.modalities.image.preparation import ImagePreparation
from consilium.modalities.image.section import ImageSection
from consilium.modalities.part import MASK
from consilium.modalities.pretraining.agreement import agreement_loss, expander
from consilium.modalities.pretraining.self_supervision import SelfSupervision
from consilium.modalities.tokens import Encoder, FusionShape, Inputs


class MultiView(SelfSupervision):
    """Of every study with several images, two that are drawn by chance.

    Parameters
    ----------
    width : int
        Of the encoder's tokens.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.expander = expander(2 * width, width)

    @classmethod
    def build(cls, section: ImageSection, preparation: ImagePreparation, fusion: FusionShape) -> MultiView:
        del section, preparation
        return cls(fusion.width)

    def forward(self, encoder: Encoder, inputs: Inputs, draws: Draws) -> tuple[Tensor, Tensor]:
        mask = inputs[MASK]
        drawn = torch.stack([draws.uniform() for _ in range(mask.shape[1])], dim=1)
        rows = mask.sum(dim=1) > 1
        if int(rows.sum()) < 2:
            nothing = drawn.new_zeros(())
            return nothing, nothing
        several = {name: tensor[rows] for name, tensor in inputs.items()}
        order = drawn.masked_fill(~mask, -1.0)[rows].argsort(dim=1, descending=True)
        sides = []
        for place in (0, 1):
            alone = torch.zeros_like(several[MASK]).scatter(1, order[:, place : place + 1], value=True)
            sides.append(self.expander(encoder({**several, MASK: alone}).summary()))
        return agreement_loss(sides[0], sides[1])
