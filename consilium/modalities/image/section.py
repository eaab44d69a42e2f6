"""What a recipe says of images."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from consilium.modalities.section import Fraction, ModalitySection, Section


class AugmentationSection(Section):
    """Changes to training images. There is no left-right flip: laterality is medicine."""

    rotate_degrees: float = Field(default=5.0, ge=0, le=30)
    translate: Fraction = 0.04
    scale: Fraction = 0.08
    contrast: Fraction = 0.15
    noise: float = Field(default=0.02, ge=0)


class ImageSection(ModalitySection):
    """The image encoder: a MONAI backbone that gives a feature map or patch tokens."""

    encoder: Literal["densenet121", "resnet18", "vit"] = "resnet18"
    size: int = Field(default=224, ge=64, le=1024, multiple_of=32)
    """Side of the square the image is letterboxed into, pixels."""
    width: int = Field(default=64, ge=8, le=1024)
    """Channels of the first stage (resnet18: 64 is the paper's; densenet121: 64) or hidden size of the ViT."""
    patch: int = Field(default=16, ge=4, le=64)
    """Side of a ViT's patch, pixels."""
    depth: int = Field(default=6, ge=1, le=24)
    """Layers of a ViT."""
    weights: str | None = None
    """A safetensors file with the backbone's weights; None: random."""
    frozen: bool = False
    augmentation: AugmentationSection = AugmentationSection()
