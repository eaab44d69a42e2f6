"""What is wrong with a recipe, by the name of the key and the nearest known one."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import get_args

from pydantic import BaseModel, ValidationError

from consilium.domain.errors import RecipeError
from consilium.modalities.registry import modalities
from consilium.system.installed import load


def recipe_error(error: ValidationError, model: type[BaseModel], above: tuple[str, ...] = ()) -> RecipeError:
    """The first problem of `error`, of a `model` that stands at `above` in a recipe."""
    first = error.errors(include_url=False)[0]
    # A mapping's keys are checked as well; pydantic marks such a place.
    place = tuple(str(part) for part in first["loc"] if part != "[key]")
    where = ".".join((*above, *place)) or "recipe"
    if first["type"] != "extra_forbidden":
        return RecipeError(where, first["input"], rule_of(first["type"], first["msg"]))
    *parents, key = place
    elsewhere = [name for name in _section_keys(model) if name.endswith(f".{key}")]
    if elsewhere and not parents and not above:
        return RecipeError(where, first["input"], f"is no known key; there is {', '.join(elsewhere)}")
    return RecipeError(where, first["input"], nearest_key(key, _keys(model, parents)))


def rule_of(kind: str, message: str) -> str:
    """What the value must be, by the type of pydantic's problem and its message."""
    if kind in ("model_type", "dict_type"):
        return "must be a mapping of keys to values"
    rule = message.removeprefix("Value error, ").replace("Input should", "must", 1)
    return rule[:1].lower() + rule[1:]


def nearest_key(key: str, known: Iterable[str]) -> str:
    """The rule that an unknown `key` breaks."""
    nearest = difflib.get_close_matches(key, sorted(known), n=1, cutoff=0.0)
    return f"is no known key; the nearest is {nearest[0]!r}"


def _section_keys(recipe: type[BaseModel]) -> list[str]:
    """The modalities and the keys of the sections, as settings name them: ``training.epochs``."""
    sections = {name: info.annotation for name, info in recipe.model_fields.items()}
    sections |= {f"modalities.{name}": load(modality.section) for name, modality in modalities().items()}
    return [f"modalities.{name}" for name in modalities()] + [
        f"{name}.{key}"
        for name, section in sections.items()
        if isinstance(section, type) and issubclass(section, BaseModel)
        for key in section.model_fields
    ]


def _keys(model: type[BaseModel], parents: Iterable[str]) -> set[str]:
    for parent in parents:
        annotation = model.model_fields[parent].annotation
        candidates = [annotation, *get_args(annotation)]
        model = next(c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel))
    return set(model.model_fields)
