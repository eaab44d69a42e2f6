"""Backbone: a network that makes a map of images, and what training and explanations must know of it."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from consilium.domain.errors import InputError
from consilium.modalities.image.backbones.attention import AttentionLayer
from consilium.modalities.image.backbones.description import ImageInput

LEAST_CELLS = 14
"""Least number of cells a side of a saliency map."""
_WANTED_CELLS = 24
"""The deepest stage with so many is read for saliency, or the deepest of the finest ones."""


class Backbone(nn.Module, ABC):
    """A network in stages, each of which gives a map.

    Parameters
    ----------
    network : nn.Module
        Whatever has weights, under its own keys.
    pixels : ImageInput
        What `network` takes.
    cells : sequence of int
        Of the map after each stage, a side, from input to output.
    channels : int
        C of the last map.

    Attributes
    ----------
    taps : ModuleList
        One a stage, which its output passes through unchanged: where explanations watch. The output is a map or a
        sequence of tokens; `as_map` makes one of the other.
    fine : int
        The stage that saliency is read at.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, network: nn.Module, pixels: ImageInput, cells: Sequence[int], channels: int) -> None:
        super().__init__()
        self.network = network
        self.pixels = pixels
        self.stage_cells = tuple(cells)
        self.channels = channels
        self.taps = nn.ModuleList(nn.Identity() for _ in cells)
        self.fine = _fine_stage(self.stage_cells)
        for name, values in zip(("scale", "shift"), pixels.scale_and_shift, strict=True):
            self.register_buffer(name, torch.tensor(values)[:, None, None], persistent=False)

    @property
    def cells(self) -> int:
        """Rows and columns of the last map."""
        return self.stage_cells[-1]

    @property
    def fine_cells(self) -> int:
        """Rows and columns of the map that saliency is read from."""
        return self.stage_cells[self.fine]

    @abstractmethod
    def blocks(self) -> list[nn.Module]:
        """What can be trained or left alone as one, from input to output; each weight that trains is in one of them."""

    @abstractmethod
    def run(self, pixels: Tensor) -> Tensor:
        """The output of the last tap for `pixels` [N, channels in, S, S], normalised."""

    def attention_layers(self) -> list[AttentionLayer]:
        """The layers whose attention weights can be watched, first layer first; none where there are no such."""
        return []

    def forward(self, images: Tensor) -> Tensor:
        """The last map [N, C, h, w] of images [N, 1, S, S] in [0, 1]."""
        return as_map(self.run(self.normalised(images)))

    def normalised(self, images: Tensor) -> Tensor:
        """What the network takes, of images [N, 1, S, S] in [0, 1]."""
        return (images * self.scale + self.shift).contiguous(memory_format=torch.channels_last)

    def with_fine_map(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The last map, and the output of the tap `fine`, which has a gradient even where the weights are frozen."""
        with _captured(self.taps[self.fine]) as found:
            last = self(images)
        return last, found[0]


class Chain(Backbone):
    """Stages one after the other, each of them blocks one after the other.

    Parameters
    ----------
    stages : sequence of sequence of nn.Module
        Parts of `network`, in the order in which they are applied.
    strides : sequence of int
        Cumulative, of each stage.
    size : int
        S, pixels.

    Raises
    ------
    InputError
        Where the size is no multiple of the last stride.
    """

    def __init__(
        self,
        network: nn.Module,
        pixels: ImageInput,
        stages: Sequence[Sequence[nn.Module]],
        strides: Sequence[int],
        channels: int,
        size: int,
    ) -> None:
        if size % strides[-1]:
            raise InputError("modalities.image.size", size, f"must be a multiple of {strides[-1]} for this encoder")
        super().__init__(network, pixels, [size // stride for stride in strides], channels)
        self._stages = tuple(tuple(stage) for stage in stages)  # no second name for a weight

    def blocks(self) -> list[nn.Module]:
        return [block for stage in self._stages for block in stage if any(True for _ in block.parameters())]

    def run(self, pixels: Tensor) -> Tensor:
        for stage, tap in zip(self._stages, self.taps, strict=True):
            for block in stage:
                pixels = block(pixels)
            pixels = tap(pixels)
        return pixels


def as_map(tensor: Tensor) -> Tensor:
    """A stage's output as a map [N, C, h, w]; of a sequence [N, T, C] the last h·w tokens, in reading order.

    Tokens before these stand for the whole image (class, registers); there are fewer than would fill another border.
    """
    if tensor.ndim == 4:
        return tensor
    side = math.isqrt(tensor.shape[1])
    patches = tensor[:, tensor.shape[1] - side**2 :].transpose(1, 2)
    return patches.reshape(*patches.shape[:2], side, side)


def require_cells(cells: int, size: int) -> None:
    """`InputError` where the finest map of a backbone has too few cells for `size` pixels."""
    if cells < LEAST_CELLS:
        enough = math.ceil(size * LEAST_CELLS / cells)
        rule = f"gives a map of {cells} cells a side, must give {LEAST_CELLS}; take {enough} pixels, or smaller patches"
        raise InputError("modalities.image.size", size, rule)


def _fine_stage(cells: Sequence[int]) -> int:
    if len(set(cells)) == 1:  # a transformer: after its last block, only what attention gathered is left to see
        return max(len(cells) - 2, 0)
    wanted = min(_WANTED_CELLS, max(cells))
    return max(stage for stage, side in enumerate(cells) if side >= wanted)


@contextmanager
def _captured(module: nn.Module) -> Iterator[list[Tensor]]:
    """The outputs of `module` while the context lasts, with a gradient wherever one is taken."""
    found: list[Tensor] = []

    def keep(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        del module, inputs
        if torch.is_grad_enabled() and not output.requires_grad:
            output = output.detach().requires_grad_()
        found.append(output)
        return output

    hook = module.register_forward_hook(keep)
    try:
        yield found
    finally:
        hook.remove()
