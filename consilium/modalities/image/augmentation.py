"""Augmentation of training images, a whole batch at once on the device that trains.

Never a left-right flip: laterality is medicine, and a mirrored chest is a rare disease (situs inversus). The geometry
is MONAI's `AffineTransform` on the batch; its per-image transforms take five times as long on images of this size, most
of it in Python.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from consilium.modalities.draws import Draws
from consilium.modalities.image.backbones.monai_networks import AffineTransform
from consilium.modalities.image.letterbox import IMAGES
from consilium.modalities.image.section import AugmentationSection, ImageSection
from consilium.modalities.part import MASK
from consilium.modalities.tokens import Inputs


class ImageAugmentation:
    """Rotation, shift, zoom, contrast (gamma) and noise, drawn anew for every image.

    Parameters
    ----------
    recipe : AugmentationSection
    """

    def __init__(self, recipe: AugmentationSection) -> None:
        self.recipe = recipe
        self._warp = AffineTransform(normalized=True, mode="bilinear", padding_mode="zeros", align_corners=False)

    @classmethod
    def build(cls, section: ImageSection, preparation: Any) -> ImageAugmentation | None:
        """What the recipe asks for; None where it changes nothing."""
        del preparation
        return cls(section.augmentation) if any(section.augmentation.model_dump().values()) else None

    def __call__(self, inputs: Inputs, draws: Draws) -> dict[str, Tensor]:
        """`inputs` with the images that are there changed; they stay in [0, 1]."""
        images, mask = inputs[IMAGES], inputs[MASK]
        if not mask.any():
            return dict(inputs)
        out = images.clone()
        # View by view, and for absent views too: what is drawn for a study depends on no other study.
        for view, there in enumerate(mask.unbind(dim=1)):
            changed = self._warped(images[there, view], 2 * draws.uniform(5)[there] - 1)
            if self.recipe.noise > 0:
                changed = changed + self.recipe.noise * draws.normal(*images.shape[2:])[there]
            out[there, view] = changed.clamp(0, 1)
        return {**inputs, IMAGES: out}

    def _warped(self, images: Tensor, draws: Tensor) -> Tensor:
        """Geometry and contrast of images [n, 1, S, S] by `draws` [n, 5] in [-1, 1]."""
        warped = self._warp(images, self._affine(draws[:, :4]), tuple(images.shape[-2:]))
        # Gamma, evenly spread on the logarithm, so that darker is as likely as brighter.
        gamma = torch.exp(draws[:, 4] * math.log1p(self.recipe.contrast))
        return warped.clamp(min=0).pow(gamma[:, None, None, None])

    def _affine(self, draws: Tensor) -> Tensor:
        """Maps from output to input in normalised coordinates [-1, 1], float [n, 2, 3]."""
        angle = draws[:, 0] * math.radians(self.recipe.rotate_degrees)
        zoom = 1 + draws[:, 1] * self.recipe.scale
        # The square spans 2 in these coordinates.
        shift = 2 * self.recipe.translate * draws[:, 2:]
        cosine, sine = zoom * torch.cos(angle), zoom * torch.sin(angle)
        first = torch.stack([cosine, -sine, shift[:, 0]], dim=1)
        second = torch.stack([sine, cosine, shift[:, 1]], dim=1)
        return torch.stack([first, second], dim=1)
