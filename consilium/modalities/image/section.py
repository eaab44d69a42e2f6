"""What a recipe says of images."""

from __future__ import annotations

import difflib
from typing import Annotated, Any, ClassVar, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from consilium.domain.errors import RecipeError
from consilium.modalities.encoder_section import EncoderSection
from consilium.modalities.image.backbones.catalogue import ARCHITECTURES, is_hugging_face
from consilium.modalities.section import Fraction, Section

MONAI, RANDOM = "monai", "random"
"""Values of `ImageSection.weights` that are no file."""


class AugmentationSection(Section):
    """Changes to training images; `augmentation: false` for none. Never a left-right flip: laterality is medicine."""

    rotate_degrees: float = Field(default=5.0, ge=0, le=30)
    translate: Fraction = 0.04
    scale: Fraction = 0.08
    contrast: Fraction = 0.15
    noise: float = Field(default=0.02, ge=0)


def _none(augmentation: Any) -> Any:
    """What ``augmentation: false`` stands for."""
    return dict.fromkeys(AugmentationSection.model_fields, 0) if augmentation is False else augmentation


def _known(encoder: str) -> str:
    if encoder in ARCHITECTURES or is_hugging_face(encoder):
        return encoder
    (nearest,) = difflib.get_close_matches(encoder, ARCHITECTURES, n=1, cutoff=0.0)
    raise ValueError(
        f"must be the name of an encoder (the nearest is {nearest!r}), or the hub id (owner/name) or folder "
        "(./name) of a Hugging Face model"
    )


class ImageSection(EncoderSection):
    """The image encoder: a network by name, or any Hugging Face vision model by hub id or local folder."""

    reads_own_weights: ClassVar[bool] = True

    encoder: Annotated[str, AfterValidator(_known)] = "resnet18"
    """A name (see `consilium weights architectures`), a hub id such as microsoft/rad-dino, or a folder."""
    size: int = Field(default=224, ge=64, le=1024)
    """Side of the square the image is letterboxed into, pixels; a multiple of the encoder's last stride or patch."""
    width: int | None = Field(default=None, ge=8, le=1024)
    """Channels of the first stage (ResNet, DenseNet) or hidden size (vit); None: 64, the papers'."""
    patch: int | None = Field(default=None, ge=4, le=64)
    """Side of a patch of the encoder vit, pixels; None: 16."""
    depth: int | None = Field(default=None, ge=1, le=24)
    """Layers of the encoder vit; None: 6."""
    weights: str | None = None
    """A file that `consilium weights import` wrote; pretrained encoders, a folder of `consilium pretrain` or
    ``models:/consilium-encoders-NAME@ALIAS``; monai: what MONAI fetches; random; None: those of a Hugging Face model,
    random for a name."""
    licence: str | None = None
    """Of a Hugging Face model's weights; None: as its folder's README states it."""
    augmentation: Annotated[AugmentationSection, BeforeValidator(_none)] = AugmentationSection()

    @classmethod
    def for_checks(cls) -> Self:
        """The smallest square."""
        return cls(size=64)

    @model_validator(mode="after")
    def _shape_fits(self) -> ImageSection:
        named = ARCHITECTURES.get(self.encoder)
        read = () if named is None else named.shape
        for key in ("width", "patch", "depth"):
            given = getattr(self, key)
            if given is not None and key not in read:
                rule = f"must be left out: the encoder {self.encoder} has its own"
                raise RecipeError(f"modalities.image.{key}", given, rule)
        if named is not None and self.licence is not None:
            rule = "must be left out: the file of weights states it (`consilium weights import --licence`)"
            raise RecipeError("modalities.image.licence", self.licence, rule)
        if named is not None and self.size % named.multiple:
            rule = f"must be a multiple of {named.multiple} for the encoder {self.encoder}"
            raise RecipeError("modalities.image.size", self.size, rule)
        if named is None and self.weights == MONAI:
            rule = f"must be left out, or {RANDOM}, or pretrained encoders: {self.encoder} has its own"
            raise RecipeError("modalities.image.weights", self.weights, rule)
        return self
