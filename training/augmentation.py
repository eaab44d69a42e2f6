"""Augmentation of training images, a whole batch at once on the device that trains.

Never a left-right flip: laterality is medicine, and a mirrored chest is a rare disease (situs inversus). The geometry
is MONAI's `AffineTransform` on the batch; its per-image transforms take five times as long on images of this size, most
of it in Python.
"""

from __future__ import annotations

import math

import torch
from monai.networks.layers import AffineTransform
from torch import Tensor

from consilium.recipe import AugmentationRecipe


class Augmentation:
    """Rotation, shift, zoom, contrast (gamma) and noise, drawn anew for every image.

    Parameters
    ----------
    recipe : AugmentationRecipe
    """

    def __init__(self, recipe: AugmentationRecipe) -> None:
        self.recipe = recipe
        self._warp = AffineTransform(normalized=True, mode="bilinear", padding_mode="zeros", align_corners=False)

    def __call__(self, images: Tensor, image_mask: Tensor, generator: torch.Generator) -> Tensor:
        """Augment the images that are there.

        Parameters
        ----------
        images : float [B, V, 1, S, S]
            In [0, 1]; so is the result.
        image_mask : bool [B, V]
        generator : torch.Generator
            On the images' device.
        """
        if not image_mask.any():
            return images
        real = images[image_mask]
        real = self._warp(real, self._affine(len(real), images.device, generator), tuple(real.shape[-2:]))
        real = self._contrast(real, generator)
        if self.recipe.noise > 0:
            real = real + self.recipe.noise * torch.randn(real.shape, generator=generator, device=real.device)
        out = images.clone()
        out[image_mask] = real.clamp(0, 1)
        return out

    def _affine(self, count: int, device: torch.device, generator: torch.Generator) -> Tensor:
        """Maps from output to input in normalised coordinates [-1, 1], float [count, 2, 3]."""
        draws = 2 * torch.rand(count, 4, generator=generator, device=device) - 1
        angle = draws[:, 0] * math.radians(self.recipe.rotate_degrees)
        zoom = 1 + draws[:, 1] * self.recipe.scale
        # The square spans 2 in these coordinates.
        shift = 2 * self.recipe.translate * draws[:, 2:]
        cosine, sine = zoom * torch.cos(angle), zoom * torch.sin(angle)
        first = torch.stack([cosine, -sine, shift[:, 0]], dim=1)
        second = torch.stack([sine, cosine, shift[:, 1]], dim=1)
        return torch.stack([first, second], dim=1)

    def _contrast(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Gamma, evenly spread on the logarithm, so that darker is as likely as brighter."""
        draws = 2 * torch.rand(len(images), 1, 1, 1, generator=generator, device=images.device) - 1
        gamma = torch.exp(draws * math.log1p(self.recipe.contrast))
        return images.clamp(min=0).pow(gamma)
