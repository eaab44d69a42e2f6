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
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from consilium.configuration.recipe import Recipe
from consilium.domain.errors import ArtifactError, InputError, with_reasons
from consilium.domain.study import Study
from consilium.domain.variable_records import variables_from_json, variables_to_json
from consilium.domain.variables import BUILT_IN, Variable, VariableTable
from consilium.modalities.converter import Array, Converter
from consilium.modalities.part import MASK, Preparation
from consilium.modalities.registry import find_modality
from consilium.modalities.section import ModalitySection, names_encoders
from consilium.modalities.tokens import FEATURES
from consilium.modalities.weight_source import WeightSource
from consilium.preprocessing.batch import Batch, Prepared, StudyFeatures
from consilium.preprocessing.encoder_start import EncoderStart
from consilium.system.installed import load

_STATE = "preprocessing.json"
_NONE: Mapping[str, EncoderStart] = MappingProxyType({})


class Preprocessing:
    """Everything between a Study and a Batch; fitted once, never changed.

    Attributes
    ----------
    preparations : dict of str to Preparation
        Of each modality of the recipe, of the class that the modality derives, in the order of the registry.
    variables : VariableTable
        What the observations' variables are: the built-in ones, and those of the cohort.
    encoders : dict of str to WeightSource
        Of each modality whose encoder begins from one that `consilium pretrain` made.
    starts : dict of str to EncoderStart
        These encoders themselves, while a model is trained; no artifact has them.
    """

    def __init__(
        self,
        recipe: Recipe,
        preparations: Mapping[str, Any],
        variables: VariableTable = BUILT_IN,
        encoders: Mapping[str, WeightSource] = MappingProxyType({}),
    ) -> None:
        self.recipe = recipe
        self.preparations: dict[str, Any] = dict(preparations)
        self.variables = variables
        self.encoders = dict(encoders)
        self.starts: dict[str, EncoderStart] = {}

    @property
    def read_variables(self) -> tuple[Variable, ...]:
        """The variables that the model reads, in the order of the table."""
        read = {variable.name for preparation in self.preparations.values() for variable in preparation.read_variables}
        return tuple(variable for variable in self.variables.values() if variable.name in read)

    @property
    def weight_sources(self) -> dict[str, tuple[WeightSource, ...]]:
        """Of each modality whose encoder begins from pretrained weights, where these come from."""
        found: dict[str, tuple[WeightSource, ...]] = {}
        for name, preparation in self.preparations.items():
            own = (self.encoders[name],) if name in self.encoders else ()
            found[name] = (*own, *preparation.weight_sources)
        return {name: sources for name, sources in found.items() if sources}

    # --- fitting -----------------------------------------------------------------------------------------------------

    @classmethod
    def fit(
        cls,
        recipe: Recipe,
        studies: Iterable[Study],
        variables: VariableTable = BUILT_IN,
        starts: Mapping[str, EncoderStart] = _NONE,
    ) -> Preprocessing:
        """Learn from the training studies whatever each modality's preparation needs.

        Parameters
        ----------
        starts : mapping of str to EncoderStart
            The pretrained encoders that the recipe names as weights, by modality; others are passed over.

        Raises
        ------
        InputError
            Where the studies hold nothing of a modality to learn from, or encoders that the recipe names are not given.
        """
        within = [study.within(recipe.inputs.window) for study in studies]
        own = {name: starts[name] for name in _naming_encoders(recipe, starts)}
        fitted = {
            name: own[name].preparation.adopted(section, within, variables)
            if name in own
            else preparation_class(name).fit(section, within, variables)
            for name, section in recipe.modalities.items()
        }
        made = cls(recipe, fitted, variables, {name: start.source for name, start in own.items()})
        made.starts = own
        return made

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
        for name in {name for item in items for name in item.features}:
            inputs[name] = self._with_features(name, inputs[name], items)
        return Batch(inputs, None if labels is None else torch.from_numpy(np.asarray(labels, np.float32)))

    def _with_features(self, name: str, inputs: dict[str, Tensor], items: Sequence[Prepared]) -> dict[str, Tensor]:
        """`inputs` of one modality with what its encoder's body has made of the studies before."""
        converter = preparation_class(name).converter(self.recipe.modalities[name])
        array = None if converter is None else converter.array
        if array is not None and not any(len(item.parts[name].arrays[array]) for item in items):
            inputs = {key: tensor for key, tensor in inputs.items() if key != array}
        return {**inputs, **collated_features([item.features.get(name) for item in items])}

    # --- in the artifact ---------------------------------------------------------------------------------------------

    def save(self, folder: Path) -> None:
        """Write the state of every preparation below `folder`, which is made."""
        folder.mkdir(parents=True)
        state = {
            "keys": {name: preparation.key for name, preparation in self.preparations.items()},
            "variables": variables_to_json(self.variables, (variable.name for variable in self.read_variables)),
            "encoders": {name: source.to_json() for name, source in self.encoders.items()},
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
        encoders = {name: WeightSource.from_json(source) for name, source in state["encoders"].items()}
        return cls(recipe, loaded, variables, encoders)

    @property
    def digest(self) -> str:
        """SHA-256 over everything that was fitted."""
        parts = [[name, preparation.key, preparation.digest] for name, preparation in self.preparations.items()]
        return hashlib.sha256(json.dumps([parts, variables_to_json(self.variables)]).encode()).hexdigest()


def collated_features(found: Sequence[StudyFeatures | None]) -> dict[str, Tensor]:
    """`FEATURES`, float32 [B, R, T, C], and `MASK`, bool [B, L], of studies; of a study without any, nothing is there.

    At least one of `found` must be there; they are padded with zeros to the largest.
    """
    there = [(row, one) for row, one in enumerate(found) if one is not None]
    sizes = np.array([one.values.shape for _, one in there]).max(axis=0)
    values = np.zeros((len(found), *sizes), np.float32)
    mask = np.zeros((len(found), max(len(one.mask) for _, one in there)), bool)
    for row, one in there:
        things, features, _ = one.values.shape
        values[row, :things, :features] = one.values
        mask[row, : len(one.mask)] = one.mask
    return {FEATURES: torch.from_numpy(values), MASK: torch.from_numpy(mask)}


def _naming_encoders(recipe: Recipe, starts: Mapping[str, EncoderStart]) -> list[str]:
    """The modalities whose section names pretrained encoders, all of which `starts` must have."""
    naming = {name: section.weights for name, section in recipe.modalities.items() if names_encoders(section.weights)}
    for name, weights in naming.items():
        if name not in starts:
            raise InputError(f"modalities.{name}.weights", weights, "must be resolved before a preparation is fitted")
    return list(naming)


def named_sources(recipe: Recipe, starts: Mapping[str, EncoderStart]) -> dict[str, tuple[WeightSource, ...]]:
    """Where the weights come from that `recipe` names, by modality, before anything is fitted; see `fit`.

    Reads the files of models; a network only where a hub id is named.
    """
    encoders = _naming_encoders(recipe, starts)
    return {
        name: starts[name].sources if name in encoders else preparation_class(name).named_sources(section)
        for name, section in recipe.modalities.items()
    }


def preparation_class(name: str) -> type[Preparation[Any]]:
    """The class that prepares the modality called `name`."""
    found: type[Preparation[Any]] = load(find_modality(name).preparation)
    return found


def converters(sections: Mapping[str, ModalitySection]) -> dict[str, Converter]:
    """What makes arrays of single records, of those modalities in `sections` that have such; nothing is fitted."""
    found = {name: preparation_class(name).converter(section) for name, section in sections.items()}
    return {name: converter for name, converter in found.items() if converter is not None}


def converted(
    preprocessing: Preprocessing, prepared: Prepared, without: str | None = None
) -> dict[str, Sequence[Array]]:
    """What `Preprocessing.prepare` takes for a study that differs from `prepared` in the modality `without` alone."""
    return {
        name: converter.separated(prepared.parts[name])
        for name, converter in converters(preprocessing.recipe.modalities).items()
        if name != without
    }
