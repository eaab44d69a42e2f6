"""Stages of pretraining: what each reads, and what they read together.

Only here does a section read what was written after the answer was known: a stage's recipe is made of a checked one,
and is checked section by section.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from consilium.configuration.recipe import Recipe
from consilium.configuration.recipe_errors import recipe_error
from consilium.domain.errors import InputError


def recipe_of_stages(recipe: Recipe) -> Recipe:
    """`recipe` with sections that read what any stage of its pretraining reads, and its widest time window."""
    first, *others = [stage_sections(recipe, position) for position in range(len(recipe.pretraining.all_stages))]
    for later in others:
        first = {name: section.joined(later[name]) for name, section in first.items()}
    return _with_sections(recipe, first)


def stage_recipe(recipe: Recipe, position: int) -> Recipe:
    """`recipe` as the stage of its pretraining at `position` has it: sections, window, schedule."""
    pretraining = recipe.pretraining
    stage = pretraining.all_stages[position]
    schedule = {
        "epochs": stage.epochs or pretraining.epochs,
        "batch_size": pretraining.batch_size,
        "learning_rate": stage.learning_rate or pretraining.learning_rate,
    }
    changed = _with_sections(recipe, stage_sections(recipe, position))
    return changed.model_copy(update={"training": recipe.training.model_copy(update=schedule)})


def stage_sections(recipe: Recipe, position: int) -> dict[str, Any]:
    """The section of each modality in the stage at `position`, checked as a recipe's.

    Raises
    ------
    InputError
        A stage changes a key that it may not, or gives it a value that cannot be.
    """
    stage = recipe.pretraining.all_stages[position]
    sections = dict(recipe.modalities)
    for name, changes in stage.modalities.items():
        section = sections[name]
        allowed = sorted(type(section).stage_keys)
        for key in changes:
            if key not in allowed:
                rule = f"must be one of {', '.join(allowed)}" if allowed else f"must not be there: {name} has none"
                raise InputError(f"pretraining.stages.{stage.name}.modalities.{name}", key, rule)
        data = section.model_dump() | dict(changes)
        sections[name] = _checked(type(section), data, f"pretraining.stages.{stage.name}.modalities.{name}")
    return sections


def _checked(kind: type[Any], data: Mapping[str, Any], place: str) -> Any:
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        raise recipe_error(error, kind, (place,)) from None


def _with_sections(recipe: Recipe, sections: dict[str, Any]) -> Recipe:
    """A copy whose sections may read what no supervised recipe may."""
    after = max(recipe.inputs.after_hours, recipe.pretraining.after_hours)
    inputs = recipe.inputs.model_copy(update={"after_hours": after})
    return recipe.model_copy(update={"modalities": sections, "inputs": inputs})
