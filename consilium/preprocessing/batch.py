"""What lies between a Study and the network: one study prepared as arrays, several as tensors with masks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from consilium.domain.study import Study
from consilium.masking import Span
from consilium.modalities.image.letterbox import Letterbox
from consilium.modalities.observations.features import Course


@dataclass(frozen=True, slots=True)
class Piece:
    """Where a word piece came from: characters `start` to `end` of the text of the study's note number `note`."""

    note: int
    start: int
    end: int


@dataclass(frozen=True, slots=True, eq=False)
class EncodedText:
    """Word pieces of all notes read: `input_ids` int64 [L], and per piece its origin (None: a marker of ours).

    `masked` is what the pieces do not show, of each note by its number.
    """

    input_ids: npt.NDArray[np.int64]
    pieces: tuple[Piece | None, ...]
    masked: Mapping[int, tuple[Span, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """One study, ready to be batched.

    Attributes
    ----------
    images : uint16 [V, S, S]
    views : int64 [V]
    observations : float32 [A]
        Standardised; NaN where missing.
    observation_codes : int64 [A]
        What is no number: see `consilium.modalities.observations.features.Feature.codes`; 0 where there is nothing of
        the kind.
    read : tuple of (Course or None)
        Which observations each feature was read from, [A]; None for age, sex and missing ones.
    study : Study
        As it came. `Piece.note` counts its notes, also those that were not read.
    unknown_origin : tuple of str
        What the images' files say that they show, and that the training images did not.
    """

    study: Study
    images: npt.NDArray[np.uint16]
    views: npt.NDArray[np.int64]
    letterboxes: tuple[Letterbox, ...]
    text: EncodedText
    observations: npt.NDArray[np.float32]
    observation_codes: npt.NDArray[np.int64]
    read: tuple[Course | None, ...]
    warnings: tuple[str, ...]
    unknown_origin: tuple[str, ...] = ()

    @property
    def present(self) -> frozenset[str]:
        """The modalities that this study has."""
        has = {
            "image": len(self.images) > 0,
            "text": len(self.text.input_ids) > 0,
            "observations": bool(np.isfinite(self.observations).any()),
        }
        return frozenset(modality for modality, there in has.items() if there)


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Tensors and masks of several studies.

    Attributes
    ----------
    images : float32 [B, V, 1, S, S]
        In [0, 1].
    image_mask, text_mask, observation_mask : bool [B, V], [B, L], [B, A]
        True where something is there.
    views : int64 [B, V]
    input_ids : int64 [B, L]
    observations : float32 [B, A]
        Standardised, 0 where missing.
    observation_codes : int64 [B, A]
        Categories, and which values are limits; 0 for a plain number and where missing.
    labels : float32 [B, F] or None
        NaN where unknown.
    """

    images: Tensor
    image_mask: Tensor
    views: Tensor
    input_ids: Tensor
    text_mask: Tensor
    observations: Tensor
    observation_codes: Tensor
    observation_mask: Tensor
    labels: Tensor | None = None

    def __len__(self) -> int:
        return len(self.images)

    def present(self, modality: str) -> Tensor:
        """Which studies have `modality`, bool [B]."""
        masks = {
            "image": self.image_mask,
            "text": self.text_mask,
            "observations": self.observation_mask,
        }
        return masks[modality].any(dim=1)

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> Batch:
        return self._map(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> Batch:
        return self._map(Tensor.pin_memory)

    def _map(self, function: Callable[[Tensor], Tensor]) -> Batch:
        tensors = {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) is not None}
        return Batch(**{name: function(tensor) for name, tensor in tensors.items()})
