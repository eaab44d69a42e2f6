"""What a recipe says of volumes."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from consilium.domain.errors import RecipeError
from consilium.modalities.encoder_section import EncoderSection

Spacing = Annotated[float, Field(ge=0.3, le=20)]
Size = Annotated[int, Field(ge=16, le=320)]
Window = tuple[Annotated[float, Field(ge=-2000, le=4000)], Annotated[float, Field(ge=1, le=8000)]]

STRIDES = {"resnet10": 16, "resnet18": 16, "resnet34": 16, "densenet121": 32, "vit": 16, "swin": 32, "slices": 16}
"""What each network divides the sides of a volume by."""


class VolumeSection(EncoderSection):
    """The volume encoder: a network in three dimensions, or one of slices."""

    encoder: Literal["resnet10", "resnet18", "resnet34", "densenet121", "vit", "swin", "slices"] = "resnet10"
    """resnet, densenet, vit, swin: in three dimensions. slices: a ResNet of each slice, and attention over slices."""
    width: int = Field(default=16, ge=4, le=128)
    """Channels of the first stage; hidden size of the ViT is 12 times that."""
    spacing: tuple[Spacing, Spacing, Spacing] = (4.0, 4.0, 4.0)
    """Millimetres between the voxels that the model reads: head to foot, front to back, right to left."""
    size: tuple[Size, Size, Size] = (64, 64, 64)
    """Voxels that the model reads in these directions, around the middle of the volume; a smaller volume is padded."""
    intensities: Literal["hounsfield", "percentiles"] = "hounsfield"
    """hounsfield: windows of a CT. percentiles: from the 1st to the 99th percentile of each volume, as MR needs."""
    windows: tuple[Window, ...] = ((-600.0, 1500.0), (40.0, 400.0), (400.0, 1800.0))
    """Centre and width in Hounsfield units, each a channel: lung, soft tissue and bone unless given."""
    modality: Literal["CT", "MR", "any"] = "any"
    """Volumes whose file states another one are not read."""
    plane: Literal["axial", "coronal", "sagittal", "any"] = "any"
    """Volumes whose slices lie otherwise are not read."""
    least_slices: int = Field(default=4, ge=4, le=4096)
    """Volumes of fewer slices are not read."""
    thickest: float = Field(default=20.0, gt=0, le=100)
    """Volumes whose slices are further apart, in millimetres, are not read."""

    @classmethod
    def for_checks(cls) -> Self:
        """The smallest box."""
        return cls(size=(16, 16, 16), spacing=(20.0, 20.0, 20.0), encoder="resnet10", intensities="percentiles")

    def reads(self, record: Any) -> bool:
        """Whether the volume is of the kind that the recipe names."""
        between = record.grid.spacing[0]
        of_modality = self.modality == "any" or record.modality in ("", self.modality)
        in_plane = self.plane in ("any", record.grid.plane)
        return of_modality and in_plane and record.grid.shape[0] >= self.least_slices and between <= self.thickest

    @property
    def channels(self) -> int:
        """Channels that a converter makes of a volume."""
        return len(self.windows) if self.intensities == "hounsfield" else 1

    @model_validator(mode="after")
    def _fits(self) -> VolumeSection:
        stride = STRIDES[self.encoder]
        sides = self.size[1:] if self.encoder == "slices" else self.size
        if any(side % stride for side in sides):
            rule = f"must be multiples of {stride} for the encoder {self.encoder}"
            raise RecipeError("modalities.volume.size", list(self.size), rule)
        if not self.windows:
            raise RecipeError("modalities.volume.windows", [], "must name a window at least")
        return self
