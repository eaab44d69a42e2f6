"""Augmentation of training images and notes, a whole batch at once on the device that trains.

Never a left-right flip: laterality is medicine, and a mirrored chest is a rare disease (situs inversus). The geometry
is MONAI's `AffineTransform` on the batch; its per-image transforms take five times as long on images of this size, most
of it in Python.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from consilium.configuration.recipe import AugmentationRecipe
from consilium.domain.errors import InputError
from consilium.modalities.image.monai_networks import AffineTransform
from training.runtime.distributed import Share

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class Augmentation:
    """Rotation, shift, zoom, contrast (gamma) and noise, drawn anew for every image.

    Parameters
    ----------
    recipe : AugmentationRecipe
    """

    def __init__(self, recipe: AugmentationRecipe) -> None:
        self.recipe = recipe
        self._warp = AffineTransform(normalized=True, mode="bilinear", padding_mode="zeros", align_corners=False)

    def __call__(
        self, images: Tensor, image_mask: Tensor, generator: torch.Generator, share: Share | None = None
    ) -> Tensor:
        """Augment the images that are there.

        Parameters
        ----------
        images : float [B, V, 1, S, S]
            In [0, 1]; so is the result.
        image_mask : bool [B, V]
        generator : torch.Generator
            On the images' device.
        share : Share or None
            Which part of the global batch the B studies are; None: all of it.
        """
        if not image_mask.any():
            return images
        share = share or Share(len(images), 0, len(images))
        out = images.clone()
        # View by view, and for absent views too: what is drawn for a study depends on no other study.
        for view, there in enumerate(image_mask.unbind(dim=1)):
            draws = share.take(torch.rand(share.studies, 5, generator=generator, device=images.device))[there]
            changed = self._warped(images[there, view], 2 * draws - 1)
            if self.recipe.noise > 0:
                shape = (share.studies, *images.shape[2:])
                noise = share.take(torch.randn(shape, generator=generator, device=images.device))[there]
                changed = changed + self.recipe.noise * noise
            out[there, view] = changed.clamp(0, 1)
        return out

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

    def __call__(
        self, input_ids: Tensor, text_mask: Tensor, generator: torch.Generator, share: Share | None = None
    ) -> Tensor:
        """Blank pieces of the notes that are there.

        Parameters
        ----------
        input_ids : int [B, L]
        text_mask : bool [B, L]
        generator : torch.Generator
            On the CPU, whatever the device of `input_ids`: the same draws everywhere.
        share : Share or None
            Which part of the global batch the B studies are; None: all of it.
        """
        share = share or Share(len(input_ids), 0, len(input_ids))
        drawn = share.take(torch.rand(share.studies, self._longest, generator=generator))
        draws = drawn[:, : input_ids.shape[1]]
        blanked = (draws < self._rate).to(input_ids.device) & text_mask
        blanked &= ~torch.isin(input_ids, self._markers.to(input_ids.device))
        return input_ids.masked_fill(blanked, self._blank)
