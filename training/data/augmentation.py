"""Augmentation of training batches: what each modality of the recipe declares."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

from torch import Tensor

from consilium.modalities.draws import Draws
from consilium.modalities.registry import find_modality
from consilium.modalities.tokens import Inputs
from consilium.preprocessing.batch import Batch
from consilium.preprocessing.collate import Preprocessing
from consilium.system.installed import load

Augmentation: TypeAlias = Callable[[Inputs, Draws], Mapping[str, Tensor]]


def augmentations(preprocessing: Preprocessing) -> dict[str, Augmentation]:
    """What changes the inputs of training batches, of each modality of the recipe that has such, in order.

    Raises
    ------
    InputError
        Where the recipe asks for what its model cannot be given.
    """
    found = {}
    for name, section in preprocessing.recipe.modalities.items():
        reference = find_modality(name).augmentation
        made = load(reference).build(section, preprocessing.preparations[name]) if reference else None
        if made is not None:
            found[name] = made
    return found


def augmented(batch: Batch, changes: Mapping[str, Augmentation], draws: Draws) -> Batch:
    """`batch` with the inputs that `changes` make of its own."""
    for name, change in changes.items():
        batch = batch.with_inputs(name, **change(batch.inputs[name], draws))
    return batch
