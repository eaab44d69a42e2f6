"""Study → Batch: the only preprocessing there is, for training and for the service.

`Preprocessing` composes the preparations of the modalities that a recipe reads. It is fitted once on the training
studies and travels in the artifact. `prepare` turns one Study into NumPy arrays, `collate` several of them into tensors
with masks. What was left out is named in a warning.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from consilium.configuration.recipe import Recipe
from consilium.domain.errors import ArtifactError, InputError, with_reasons
from consilium.domain.study import Study
from consilium.domain.variable_records import variables_from_json, variables_to_json
from consilium.domain.variables import BUILT_IN, Variable, VariableTable
from consilium.modalities.part import Array, Converter, Preparation
from consilium.modalities.registry import find_modality
from consilium.preprocessing.batch import Batch, Prepared
from consilium.system.installed import load

_STATE = "preprocessing.json"


class Preprocessing:
    """Everything between a Study and a Batch; fitted once, never changed.

    Attributes
    ----------
    preparations : dict of str to Preparation
        Of each modality of the recipe, of the class that the modality derives, in the order of the registry.
    variables : VariableTable
        What the observations' variables are: the built-in ones, and those of the cohort.
    """

    def __init__(self, recipe: Recipe, preparations: Mapping[str, Any], variables: VariableTable = BUILT_IN) -> None:
        self.recipe = recipe
        self.preparations: dict[str, Any] = dict(preparations)
        self.variables = variables

    @property
    def read_variables(self) -> tuple[Variable, ...]:
        """The variables that the model reads, in the order of the table."""
        read = {variable.name for preparation in self.preparations.values() for variable in preparation.read_variables}
        return tuple(variable for variable in self.variables.values() if variable.name in read)

    # --- fitting -----------------------------------------------------------------------------------------------------

    @classmethod
    def fit(cls, recipe: Recipe, studies: Iterable[Study], variables: VariableTable = BUILT_IN) -> Preprocessing:
        """Learn from the training studies whatever each modality's preparation needs.

        Raises
        ------
        InputError
            Where the studies hold nothing of a modality to learn from.
        """
        within = [study.within(recipe.inputs.window) for study in studies]
        fitted = {
            name: preparation_class(name).fit(recipe.modalities[name], within, variables) for name in recipe.modalities
        }
        return cls(recipe, fitted, variables)

    # --- one study ---------------------------------------------------------------------------------------------------

    def prepare(self, study: Study, converted: Mapping[str, Sequence[Array]] | None = None) -> Prepared:
        """Arrays of one study.

        Parameters
        ----------
        converted : mapping of str to sequence of ndarray, optional
            What a modality's `Converter` made of the study's records, where that was done before.

        Raises
        ------
        InputError
            Where nothing remains that the model could read.
        """
        within = study.within(self.recipe.inputs.window)
        parts = {
            name: preparation.prepare(within, study, (converted or {}).get(name))
            for name, preparation in self.preparations.items()
        }
        of_parts = [warning for part in parts.values() for warning in part.warnings]
        prepared = Prepared(study, parts, (*within.warnings, *study.contradictions, *of_parts))
        if not prepared.present:
            rule = with_reasons(f"must have {' or '.join(self.recipe.modalities)}", prepared.warnings)
            raise InputError("study", "nothing that this model reads", rule)
        return prepared

    # --- several studies ---------------------------------------------------------------------------------------------

    def collate(self, items: Sequence[Prepared], labels: npt.NDArray[np.float32] | None = None) -> Batch:
        """Pad to the longest study of the batch."""
        inputs = {
            name: preparation.collate([item.parts[name] for item in items])
            for name, preparation in self.preparations.items()
        }
        return Batch(inputs, None if labels is None else torch.from_numpy(np.asarray(labels, np.float32)))

    # --- in the artifact ---------------------------------------------------------------------------------------------

    def save(self, folder: Path) -> None:
        """Write the state of every preparation below `folder`, which is made."""
        folder.mkdir(parents=True)
        state = {
            "keys": {name: preparation.key for name, preparation in self.preparations.items()},
            "variables": variables_to_json(self.variables, (variable.name for variable in self.read_variables)),
        }
        (folder / _STATE).write_text(json.dumps(state, indent=1), encoding="utf-8")
        for name, preparation in self.preparations.items():
            (folder / name).mkdir()
            preparation.save(folder / name)

    @classmethod
    def load(cls, folder: Path, recipe: Recipe) -> Preprocessing:
        """Read what `save` wrote.

        Raises
        ------
        ArtifactError
            Where this version would prepare a modality otherwise than the one that trained the model.
        """
        state = json.loads((folder / _STATE).read_text(encoding="utf-8"))
        variables = variables_from_json(state["variables"])
        loaded = {
            name: preparation_class(name).load(folder / name, recipe.modalities[name], variables)
            for name in recipe.modalities
        }
        for name, preparation in loaded.items():
            if preparation.key != state["keys"][name]:
                rule = f"is not this version's {preparation.key}"
                raise ArtifactError(f"preparation of {name} {state['keys'][name]} {rule}")
        return cls(recipe, loaded, variables)

    @property
    def digest(self) -> str:
        """SHA-256 over everything that was fitted."""
        parts = [[name, preparation.key, preparation.digest] for name, preparation in self.preparations.items()]
        return hashlib.sha256(json.dumps([parts, variables_to_json(self.variables)]).encode()).hexdigest()


def preparation_class(name: str) -> type[Preparation[Any]]:
    """The class that prepares the modality called `name`."""
    found: type[Preparation[Any]] = load(find_modality(name).preparation)
    return found


def converters(recipe: Recipe) -> dict[str, Converter]:
    """What makes arrays of single records, of those modalities of `recipe` that have such; nothing is fitted."""
    found = {name: preparation_class(name).converter(recipe.modalities[name]) for name in recipe.modalities}
    return {name: converter for name, converter in found.items() if converter is not None}


def converted(
    preprocessing: Preprocessing, prepared: Prepared, without: str | None = None
) -> dict[str, Sequence[Array]]:
    """What `Preprocessing.prepare` takes for a study that differs from `prepared` in the modality `without` alone."""
    return {
        name: list(prepared.parts[name].arrays[converter.array])
        for name, converter in converters(preprocessing.recipe).items()
        if name != without
    }
