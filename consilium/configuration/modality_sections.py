"""The sections of a recipe's modalities, and which records of a study they read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from consilium.configuration.recipe_errors import nearest_key, recipe_error
from consilium.domain.errors import RecipeError
from consilium.domain.study import Study, Window
from consilium.modalities.registry import in_order, modalities
from consilium.modalities.section import ModalitySection
from consilium.system.installed import load


def read_sections(data: Any) -> dict[str, ModalitySection]:
    """The sections of a recipe's `modalities`, each checked by the class that its modality declares."""
    given = data if isinstance(data, Mapping) else {}
    chosen = {str(name): section for name, section in given.items() if section is not False}
    if not chosen:
        rule = "must be a mapping of at least one modality to its section, such as {image: {size: 128}, text: {}}"
        raise RecipeError("modalities", data, rule)
    for name, section in chosen.items():
        if name not in modalities():
            raise RecipeError(f"modalities.{name}", section, nearest_key(name, modalities()))
    return {name: _section(name, chosen[name]) for name in in_order(chosen)}


def _section(name: str, data: Any) -> ModalitySection:
    declared: type[ModalitySection] = load(modalities()[name].section)
    if data is None:
        raise RecipeError(
            f"modalities.{name}", data, "must be a mapping of keys, {} for its defaults or false for none"
        )
    try:
        return declared.model_validate(data)
    except ValidationError as error:
        raise recipe_error(error, declared, ("modalities", name)) from None


def default_sections() -> dict[str, ModalitySection]:
    """Every installed modality with its defaults."""
    return read_sections({name: {} for name in modalities()})


def checking_sections() -> dict[str, ModalitySection]:
    """By what the files of a cohort are read to be checked, of every installed modality."""
    return {name: load(modality.section).for_checks() for name, modality in modalities().items()}


@dataclass(frozen=True, slots=True)
class Scope:
    """Which records of a study a model reads.

    Attributes
    ----------
    window : Window
    sections : mapping of str to ModalitySection
        Of the modalities; their records may be of kinds that are not read.
    """

    window: Window = field(default_factory=Window)
    sections: Mapping[str, ModalitySection] = field(default_factory=default_sections)

    def study(self, study: Study) -> Study:
        """`study` without the records that are not read; those of other modalities stay."""
        within = study.within(self.window)
        parts = {
            name: tuple(record for record in within.parts[name] if section.reads(record))
            for name, section in self.sections.items()
        }
        return within.with_parts(**parts)
