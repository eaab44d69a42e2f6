"""What lies between a Study and the network: one study prepared as arrays, several as tensors with masks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from consilium.domain.study import Study
from consilium.modalities.converter import Array
from consilium.modalities.part import MASK


@dataclass(frozen=True, slots=True, eq=False)
class StudyFeatures:
    """What the body of an encoder has made before of one study: see `consilium.modalities.tokens.DenseEncoder`.

    Attributes
    ----------
    values : float32 [R, T, C]
        Of the R things of the study that the body reads one by one, such as its images.
    mask : bool [L]
        What `MASK` of the encoder's inputs is for the study.
    """

    values: Array
    mask: Array


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """One study, ready to be batched.

    Attributes
    ----------
    study : Study
        As it came.
    parts : mapping of str to Part
        What the model reads of it, for each modality of the recipe, of the class that the modality derives; without
        rows where the study has nothing of it.
    warnings : tuple of str
    features : mapping of str to StudyFeatures
        By modality, where an encoder's body need not read the study again. The array of the modality's converter may
        then be without rows.
    """

    study: Study
    parts: Mapping[str, Any]
    warnings: tuple[str, ...]
    features: Mapping[str, StudyFeatures] = field(default_factory=dict)

    @property
    def present(self) -> frozenset[str]:
        """The modalities that this study has."""
        return frozenset(modality for modality, part in self.parts.items() if part.present)

    def with_arrays(self, modality: str, **arrays: Array) -> Prepared:
        """The same with other arrays of one modality."""
        return replace(self, parts={**self.parts, modality: self.parts[modality].with_arrays(**arrays)})


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Tensors of B studies.

    Attributes
    ----------
    inputs : mapping of str to mapping of str to Tensor [B, T, ...]
        Of each modality of the recipe, by name; among them ``mask``, bool [B, T], True where something is there.
    labels : float32 [B, F] or None
        NaN where unknown.
    steps : float32 [B, S] or None
        Of the targets beside the findings, 1 where the study passed the step, 0 where not, NaN where it did not come to
        it or nobody knows.
    sources : int64 [B] or None
        Which of a cohort's sources each study is from, -1 where nobody knows; for training alone.
    """

    inputs: Mapping[str, Mapping[str, Tensor]]
    labels: Tensor | None = None
    steps: Tensor | None = None
    sources: Tensor | None = None

    def __len__(self) -> int:
        return len(next(iter(self.inputs.values()))[MASK])

    def present(self, modality: str) -> Tensor:
        """Which studies have `modality`, bool [B]."""
        return self.inputs[modality][MASK].any(dim=1)

    def with_inputs(self, modality: str, **tensors: Tensor) -> Batch:
        """The same with other tensors of one modality."""
        return replace(self, inputs={**self.inputs, modality: {**self.inputs[modality], **tensors}})

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> Batch:
        return self._map(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> Batch:
        return self._map(Tensor.pin_memory)

    def _map(self, function: Callable[[Tensor], Tensor]) -> Batch:
        inputs = {
            modality: {name: function(tensor) for name, tensor in tensors.items()}
            for modality, tensors in self.inputs.items()
        }
        known = (None if one is None else function(one) for one in (self.labels, self.steps, self.sources))
        return Batch(inputs, *known)
