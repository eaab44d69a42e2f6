"""Images → squares: each image letterboxed into the model's square, its view, and the way back to its own pixels.

What the encoder does with the grey levels of the square is read here, too, from the files of the model that it begins
from, and travels in the artifact: whoever loads that needs neither these files nor a hub.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from consilium.domain.study import Study
from consilium.domain.variables import VariableTable
from consilium.modalities.image.backbones.choice import describe
from consilium.modalities.image.backbones.description import Description
from consilium.modalities.image.image_record import ViewPosition
from consilium.modalities.image.letterbox import IMAGES, Letterbox, SquareConverter
from consilium.modalities.image.origins import Origins
from consilium.modalities.image.presentation import ImageInformation, OriginInformation
from consilium.modalities.image.section import ImageSection
from consilium.modalities.part import MASK, Part, Preparation, padded
from consilium.modalities.weight_source import WeightSource

VIEWS = "views"
_VIEWS = list(ViewPosition)
_WHITE = 65535.0
_ORIGINS, _DESCRIPTION = "origins.json", "encoder.json"


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class ImagePart(Part):
    """The images of one study, V of them.

    Attributes
    ----------
    arrays : mapping
        ``images`` uint16 [V, S, S] and ``views`` int64 [V].
    letterboxes : tuple of Letterbox
        Where each image lies in its square.
    unknown_origin : tuple of str
        What the files say that they show, and that the training images did not.
    """

    letterboxes: tuple[Letterbox, ...]
    unknown_origin: tuple[str, ...] = ()

    @property
    def present(self) -> bool:
        return len(self.letterboxes) > 0


class ImagePreparation(Preparation[ImagePart]):
    """Letterboxes images, and knows what the files of the training images declare.

    Attributes
    ----------
    convert : SquareConverter
    origins : Origins
        Of the training images.
    description : Description
        Of the encoder's backbone.
    """

    def __init__(
        self, section: ImageSection, origins: Origins | None = None, description: Description | None = None
    ) -> None:
        self.convert = SquareConverter(section.size)
        self.origins = origins or Origins()
        self.description = description or describe(section)
        self.key = self.convert.key

    @classmethod
    def fit(cls, section: ImageSection, studies: Sequence[Study], variables: VariableTable) -> ImagePreparation:
        """Learn what the files say of themselves; no pixels are read."""
        del variables
        return cls(section, Origins.of(image for study in studies for image in study.parts["image"]))

    def adopted(self, section: ImageSection, studies: Sequence[Study], variables: VariableTable) -> ImagePreparation:
        """Which origins are known is a matter of the labelled studies."""
        del variables
        origins = Origins.of(image for study in studies for image in study.parts["image"])
        return ImagePreparation(section, origins, self.description)

    @classmethod
    def converter(cls, section: ImageSection) -> SquareConverter:
        return SquareConverter(section.size)

    def prepare(
        self, study: Study, received: Study, converted: Sequence[npt.NDArray[np.uint16]] | None = None
    ) -> ImagePart:
        del received
        squares = [self.convert(image) for image in study.parts["image"]] if converted is None else list(converted)
        unknown, side = self.origins.unknown(study.parts["image"]), self.convert.side
        return ImagePart(
            arrays={
                IMAGES: np.stack(squares) if squares else np.zeros((0, *self.convert.shape), np.uint16),
                VIEWS: np.array([_VIEWS.index(image.view) for image in study.parts["image"]], np.int64),
            },
            warnings=unknown,
            letterboxes=tuple(
                Letterbox(image.shape[0], image.shape[1], side, image.grid) for image in study.parts["image"]
            ),
            unknown_origin=unknown,
        )

    def collate(self, parts: Sequence[ImagePart]) -> dict[str, Tensor]:
        """``images`` float32 [B, V, 1, S, S] in [0, 1], ``views`` int64 [B, V] and ``mask`` bool [B, V]."""
        most = max(1, *(len(part.arrays[IMAGES]) for part in parts))
        images = np.zeros((len(parts), most, 1, *self.convert.shape), np.float32)
        mask = np.zeros((len(parts), most), bool)
        for row, part in enumerate(parts):
            count = len(part.arrays[IMAGES])
            images[row, :count, 0] = part.arrays[IMAGES] / _WHITE
            mask[row, :count] = True
        views = padded([part.arrays[VIEWS] for part in parts])
        return {IMAGES: torch.from_numpy(images), VIEWS: torch.from_numpy(views), MASK: torch.from_numpy(mask)}

    @classmethod
    def named_sources(cls, section: ImageSection) -> tuple[WeightSource, ...]:
        return describe(section).sources

    @property
    def weight_sources(self) -> tuple[WeightSource, ...]:
        return self.description.sources

    def information(self, section: ImageSection) -> ImageInformation:
        del section
        return ImageInformation(trained_on=OriginInformation(**self.origins.to_json()))

    def save(self, folder: Path) -> None:
        for name, data in ((_ORIGINS, self.origins.to_json()), (_DESCRIPTION, self.description.to_json())):
            (folder / name).write_text(json.dumps(data, indent=1), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path, section: ImageSection, variables: VariableTable) -> ImagePreparation:
        del variables
        origins, description = (
            json.loads((folder / name).read_text(encoding="utf-8")) for name in (_ORIGINS, _DESCRIPTION)
        )
        return cls(section, Origins.from_json(origins), Description.from_json(description))

    @property
    def digest(self) -> str:
        state = [self.origins.to_json(), self.description.to_json()]
        return hashlib.sha256(json.dumps(state).encode()).hexdigest()
