from __future__ import annotations

from pathlib import Path

import pytest

from consilium.configuration.recipe import Recipe
from consilium.domain.errors import InputError, RecipeError
from training.recipes import find_recipe, packaged_recipes
from training.runtime.tracking import flat_recipe


@pytest.mark.parametrize("name", packaged_recipes())
def test_every_packaged_recipe_is_sound_and_named_as_its_file(name: str):
    assert find_recipe(name).name == name


def test_the_promised_recipes_are_there():
    assert {"phantom-demo", "phantom-tiny", "covid-chestxray"} <= set(packaged_recipes())


def test_settings_apply_to_a_packaged_recipe():
    changed = find_recipe("phantom-tiny", ["training.epochs=9", "fusion.name=late"])
    assert (changed.training.epochs, changed.fusion.name) == (9, "late")


def test_a_user_s_own_file(tmp_path: Path):
    path = tmp_path / "mine.yaml"
    path.write_text(find_recipe("phantom-tiny").to_yaml().replace("phantom-tiny", "mine"))
    assert find_recipe(str(path)).name == "mine"


def test_what_is_neither_is_refused_with_the_names_known(tmp_path: Path):
    with pytest.raises(InputError, match="phantom-demo"):
        find_recipe("phantom-dmo")
    with pytest.raises(InputError, match="must be a YAML file"):
        find_recipe(str(tmp_path / "missing.yaml"))


def test_an_unknown_key_is_refused():
    with pytest.raises(RecipeError, match="epochs"):
        find_recipe("phantom-tiny", ["training.epoch=9"])


def test_parameters_name_every_leaf():
    flat = flat_recipe(find_recipe("phantom-tiny"))
    assert flat["training.epochs"] == "2"
    assert flat["modalities.image.size"] == "64"
    assert flat["modalities.text.note_kinds"] == "['history', 'indication']"
    assert {key.split(".")[0] for key in flat} == set(Recipe.model_fields)
