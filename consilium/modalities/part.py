"""Part and Preparation: how the records of one modality become arrays, and these the tensors of a batch.

A modality's `preparation.py` derives both. What is fitted on training studies is the state of the `Preparation`, which
travels in the artifact; a `Part` is one study's share, with whatever explanations need to find the way back to what
was sent.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, Self, TypeVar

import numpy as np
import torch
from torch import Tensor

from consilium.domain.study import Study
from consilium.domain.variables import Variable, VariableTable
from consilium.modalities.converter import Array, Converter
from consilium.modalities.weight_source import WeightSource

MASK = "mask"
"""Name of the tensor of every modality's inputs that says where something is, bool [B, T]."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Part:
    """The records of one modality of one study, ready to be batched.

    Attributes
    ----------
    arrays : mapping of str to ndarray [T, ...]
        What `Preparation.collate` reads, by name; of T tokens, images or variables.
    warnings : tuple of str
        What was left out, or not read as it stands.
    """

    arrays: Mapping[str, Array]
    warnings: tuple[str, ...] = ()

    @property
    def present(self) -> bool:
        """Whether the study has something of this modality that the model reads."""
        return any(len(array) for array in self.arrays.values())

    def with_arrays(self, **arrays: Array) -> Self:
        """The same with other arrays of these names."""
        return replace(self, arrays={**self.arrays, **arrays})


P = TypeVar("P", bound=Part)


class Preparation(ABC, Generic[P]):
    """How studies' records of one modality are read; fitted once on training studies, never changed.

    Attributes
    ----------
    key : str
        Names everything but the fitted state that decides how a record is read. A model is refused where it was trained
        with another.
    """

    key: str

    @classmethod
    @abstractmethod
    def fit(cls, section: Any, studies: Sequence[Study], variables: VariableTable) -> Self:
        """Learn from the training `studies`, which are without the records outside the time window.

        Parameters
        ----------
        section : the modality's section of the recipe
        variables : VariableTable
            Of the observations of the cohort.

        Raises
        ------
        InputError
            Where the studies hold nothing to learn from.
        """

    @abstractmethod
    def prepare(self, study: Study, received: Study, converted: Sequence[Array] | None = None) -> P:
        """Arrays of one study.

        Parameters
        ----------
        study : Study
            Without the records outside the time window.
        received : Study
            As it came; positions of records are counted in it.
        converted : sequence of ndarray, optional
            What the modality's `Converter` made of the records of `study`, where that was done before.
        """

    def adopted(self, section: Any, studies: Sequence[Study], variables: VariableTable) -> Self:
        """The preparation under another `section` of a recipe that starts from encoders pretrained with this one.

        What the encoder's weights depend on stays: a vocabulary, a scale. What describes the training studies alone may
        be learned from `studies`, as by `fit`.
        """
        del section, studies, variables
        return self

    def collate(self, parts: Sequence[P]) -> dict[str, Tensor]:
        """Tensors of several studies, [B, T, ...] by the names of their arrays, and `MASK`, bool [B, T].

        Every array is padded with zeros to the longest; a token is there where the study has a row for it.
        """
        lengths = [max((len(array) for array in part.arrays.values()), default=0) for part in parts]
        tensors = {name: padded([part.arrays[name] for part in parts]) for name in parts[0].arrays}
        mask = np.arange(max(1, *lengths)) < np.array(lengths)[:, None]
        return {**{name: torch.from_numpy(tensor) for name, tensor in tensors.items()}, MASK: torch.from_numpy(mask)}

    @classmethod
    def converter(cls, section: Any) -> Converter | None:
        """What makes an array of a record; None where records are small enough to be held and prepared anew."""
        del section
        return None

    @property
    def read_variables(self) -> tuple[Variable, ...]:
        """The variables of observations that are read, in the order of their table."""
        return ()

    @classmethod
    def named_sources(cls, section: Any) -> tuple[WeightSource, ...]:
        """Where the weights come from that `section` names, pretrained encoders aside: known before the fit."""
        del section
        return ()

    @property
    def weight_sources(self) -> tuple[WeightSource, ...]:
        """Where the pretrained weights come from that the modality's encoder begins from; none: they were random."""
        return ()

    def information(self, section: Any) -> Any:
        """What ``GET /v1/model`` says of how the modality is read, as its presentation declares; None: nothing."""
        del section
        return None

    # --- in the artifact ---------------------------------------------------------------------------------------------

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write the fitted state into `folder`, which exists and is empty."""

    @classmethod
    @abstractmethod
    def load(cls, folder: Path, section: Any, variables: VariableTable) -> Self:
        """Read what `save` wrote."""

    @property
    @abstractmethod
    def digest(self) -> str:
        """SHA-256 over everything that was fitted, in hex."""


def padded(arrays: Sequence[Array]) -> Array:
    """`arrays` [T, ...] of one type as [B, longest T, ...], at least one long, with zeros where they end."""
    longest = max(1, *(len(array) for array in arrays))
    out = np.zeros((len(arrays), longest, *arrays[0].shape[1:]), arrays[0].dtype)
    for row, array in enumerate(arrays):
        out[row, : len(array)] = array
    return out
