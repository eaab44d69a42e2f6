"""Augmentation of training images and notes, a whole batch at once on the device that trains.

Never a left-right flip: laterality is medicine, and a mirrored chest is a rare disease (situs inversus). The geometry
is MONAI's `AffineTransform` on the batch; its per-image transforms take five times as long on images of this size, most
of it in Python.
"""

from __future__ import annotations

import math

import torch
from monai.networks.layers import AffineTransform
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from consilium.errors import InputError
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


class WordDropout:
    """Blanks word pieces at random (word dropout, Iyyer et al. 2015), so that no single word decides.

    A piece becomes the tokenizer's mask, or its unknown piece where it has no mask. Its markers ([CLS], [SEP]) stay.

    Parameters
    ----------
    rate : float
        Chance of each piece.
    tokenizer : PreTrainedTokenizerBase
    longest : int
        The most pieces that a study has. So many are drawn for each, whatever the batch is padded to.

    Raises
    ------
    InputError
        Where the tokenizer has neither piece.
    """

    def __init__(self, rate: float, tokenizer: PreTrainedTokenizerBase, longest: int) -> None:
        blank = tokenizer.mask_token_id if tokenizer.mask_token_id is not None else tokenizer.unk_token_id
        if blank is None:
            rule = "needs a text model whose tokenizer has a mask or an unknown piece"
            raise InputError("training.augmentation.words", rate, rule)
        self._rate = rate
        self._blank = int(blank)
        self._markers = torch.tensor(tokenizer.all_special_ids)
        self._longest = longest

    def __call__(self, input_ids: Tensor, text_mask: Tensor, generator: torch.Generator) -> Tensor:
        """Blank pieces of the notes that are there.

        Parameters
        ----------
        input_ids : int [B, L]
        text_mask : bool [B, L]
        generator : torch.Generator
            On the CPU, whatever the device of `input_ids`: the same draws everywhere.
        """
        draws = torch.rand(len(input_ids), self._longest, generator=generator)[:, : input_ids.shape[1]]
        blanked = (draws < self._rate).to(input_ids.device) & text_mask
        blanked &= ~torch.isin(input_ids, self._markers.to(input_ids.device))
        return input_ids.masked_fill(blanked, self._blank)
