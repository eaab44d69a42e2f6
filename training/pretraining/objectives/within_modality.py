"""What the modalities declare that their encoders can learn from their own records: masked words, masked values."""

from __future__ import annotations

from collections.abc import Mapping

from consilium.configuration.recipe import Recipe
from consilium.domain.errors import InputError
from consilium.modalities.pretraining.self_supervision import SelfSupervision
from consilium.modalities.registry import modalities
from consilium.preprocessing.collate import Preprocessing
from consilium.system.installed import load
from training.pretraining.objectives.pretraining_objective import PretrainingObjective, PretrainingStep, Summed


class WithinModality(PretrainingObjective):
    """A `SelfSupervision` as an objective.

    Parameters
    ----------
    modality : str
    learned : SelfSupervision
    """

    def __init__(self, modality: str, learned: SelfSupervision) -> None:
        super().__init__()
        self.modality = modality
        self.learned = learned

    def forward(self, step: PretrainingStep) -> Mapping[str, Summed]:
        name = self.modality
        if not step.present[name].any():
            return {}
        return {name: self.learned(step.encoder(name), step.inputs[name], step.draws)}


def declared(name: str, recipe: Recipe, preprocessing: Preprocessing) -> WithinModality:
    """The objective called `name` of the modality that declares it.

    Raises
    ------
    InputError
        The recipe does not read that modality.
    """
    modality = next(one for one in modalities().values() if name in one.self_supervision)
    if modality.name not in recipe.modalities:
        rule = f"reads {modality.name}, which the recipe does not have"
        raise InputError("pretraining.objectives", name, rule)
    kind: type[SelfSupervision] = load(modality.self_supervision[name])
    section, preparation = recipe.modalities[modality.name], preprocessing.preparations[modality.name]
    return WithinModality(modality.name, kind.build(section, preparation, recipe.fusion))
