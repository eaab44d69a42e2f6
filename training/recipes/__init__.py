"""Recipes that come with the project, by name; a user's own is a path."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from consilium.configuration.recipe import Recipe, load_recipe
from consilium.domain.errors import InputError

_FOLDER = Path(__file__).parent


def packaged_recipes() -> list[str]:
    """Names of the recipes in this folder."""
    return sorted(path.stem for path in _FOLDER.glob("*.yaml"))


def find_recipe(name_or_path: str, settings: Sequence[str] = ()) -> Recipe:
    """The packaged recipe of that name, or the one in a YAML file, with ``key=value`` `settings` applied.

    Raises
    ------
    InputError
        Where there is neither.
    RecipeError
        Where a key or a value breaks a rule.
    """
    if name_or_path in packaged_recipes():
        return load_recipe(_FOLDER / f"{name_or_path}.yaml", settings)
    path = Path(name_or_path)
    if path.suffix not in (".yaml", ".yml") or not os.path.isfile(path):  # noqa: PTH113 - no error for a name too long
        known = ", ".join(packaged_recipes())
        raise InputError("recipe", name_or_path, f"must be a YAML file or one of {known}")
    return load_recipe(path, settings)
