from pathlib import Path

import pytest
import yaml

from consilium.configuration.recipe import Recipe, load_recipe
from consilium.domain.errors import InputError, RecipeError
from tests.consilium.tiny import tiny_recipe


def test_yaml_round_trip() -> None:
    recipe = tiny_recipe()
    assert Recipe.from_mapping(yaml.safe_load(recipe.to_yaml())) == recipe


@pytest.mark.parametrize(
    ("data", "field", "rule"),
    [
        ({"epochs": 3}, "epochs", "there is training.epochs"),
        ({"width": 3}, "width", "there is image.width, text.width"),
        ({"trainig": {}}, "trainig", "nearest is 'training'"),
        ({"training": {"epoch": 3}}, "training.epoch", "nearest is 'epochs'"),
        ({"training": {"augmentation": {"nois": 0}}}, "training.augmentation.nois", "nearest is 'noise'"),
        ({"training": {"epochs": 0}}, "training.epochs", "greater than 0"),
        ({"image": {"encoder": "resnet19"}}, "image.encoder", "resnet18"),
        ({"image": {"size": 100}}, "image.size", "multiple of 32"),
        ({"splits": {"train": 0.9}}, "splits", "add up to 1"),
        ({"modalities": []}, "recipe", "at least one"),
        ({"modalities": ["image", "image"]}, "recipe", "none twice"),
        ({"name": "../up"}, "name", "pattern"),
    ],
)
def test_what_is_wrong_is_named(data: dict, field: str, rule: str) -> None:
    with pytest.raises(RecipeError) as caught:
        Recipe.from_mapping({"name": "x"} | data)
    assert caught.value.field == field
    assert rule in caught.value.rule


def test_settings_reach_into_sections(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("name: x\n")
    recipe = load_recipe(path, ["training.epochs=3", "modalities=[image]", "training.modality_dropout.image=0"])
    assert recipe.training.epochs == 3
    assert recipe.modalities == ("image",)


@pytest.mark.parametrize("setting", ["epochs", "=3", "name.x=3", "training.epochs=[", "training.epoch=3"])
def test_bad_settings_are_refused(tmp_path: Path, setting: str) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("name: x\n")
    with pytest.raises(RecipeError):
        load_recipe(path, [setting])


@pytest.mark.parametrize("content", ["- a list", "a: [", "\x00"])
def test_files_that_are_no_mapping_are_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(content)
    with pytest.raises(RecipeError):
        load_recipe(path)
    with pytest.raises(InputError, match="recipe's name or a YAML file"):
        load_recipe(tmp_path / "absent.yaml")


def test_a_recipe_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        tiny_recipe().seed = 1  # type: ignore[misc]
