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
        (
            {"width": 3},
            "width",
            "there is fusion.width, pretraining.width, modalities.image.width, modalities.text.width",
        ),
        ({"trainig": {}}, "trainig", "nearest is 'training'"),
        ({"image": {"size": 64}}, "image", "is no known key; there is modalities.image"),
        ({"training": {"epoch": 3}}, "training.epoch", "nearest is 'epochs'"),
        ({"modalities": {"image": {"augmentation": {"nois": 0}}}}, "modalities.image.augmentation.nois", "is 'noise'"),
        ({"training": {"epochs": 0}}, "training.epochs", "greater than 0"),
        ({"modalities": {"image": {"encoder": "resnet19"}}}, "modalities.image.encoder", "resnet18"),
        ({"modalities": {"image": {"size": 100}}}, "modalities.image.size", "multiple of 32"),
        ({"splits": {"train": 0.9}}, "splits", "add up to 1"),
        ({"modalities": []}, "modalities", "mapping of at least one modality"),
        ({"modalities": {"image": False}}, "modalities", "mapping of at least one modality"),
        ({"modalities": {"imgae": {}}}, "modalities.imgae", "nearest is 'image'"),
        ({"modalities": {"text": None}}, "modalities.text", "{} for its defaults"),
        ({"modalities": {"text": {"witdh": 8}}}, "modalities.text.witdh", "nearest is 'width'"),
        ({"modalities": {"text": [1]}}, "modalities.text", "must be a mapping of keys to values"),
        ({"modalities": {"image": {"encoder": "net"}}}, "modalities.image.encoder", "of a Hugging Face model"),
        ({"modalities": {"text": {}}, "refer": {"required": ["image"]}}, "refer.required", "recipe's modalities, text"),
        ({"modalities": {"text": {}}, "explain": {"image": "occlusion"}}, "explain", "recipe's modalities, text"),
        ({"training": {"modality_dropout": {"imgae": 0.5}}}, "training.modality_dropout.imgae", "must be one of image"),
        ({"name": "../up"}, "name", "pattern"),
    ],
)
def test_what_is_wrong_is_named(data: dict, field: str, rule: str) -> None:
    with pytest.raises(RecipeError) as caught:
        Recipe.from_mapping({"name": "x", "modalities": {"image": {}}} | data)
    assert caught.value.field == field
    assert rule in caught.value.rule


def test_settings_reach_into_sections(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("name: x\nmodalities: {text: {}, image: {size: 128}}\n")
    settings = ["training.epochs=3", "modalities.image.size=64", "training.modality_dropout.image=0"]
    recipe = load_recipe(path, settings)
    assert recipe.training.epochs == 3
    assert list(recipe.modalities) == ["image", "text"]
    assert recipe.modalities["image"].size == 64
    assert recipe.modality_dropout == {"image": 0, "text": 0.3}
    assert list(load_recipe(path, [*settings[:2], "modalities.text=false"]).modalities) == ["image"]


def test_a_recipe_without_modalities_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"modalities.*required"):
        Recipe.from_mapping({"name": "x"})


@pytest.mark.parametrize(
    "setting", ["epochs", "=3", "name.x=3", "training.epochs=[", "name=2020-13-45", "training.epoch=3"]
)
def test_bad_settings_are_refused(tmp_path: Path, setting: str) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("name: x\n")
    with pytest.raises(RecipeError):
        load_recipe(path, [setting])


@pytest.mark.parametrize("content", ["- a list", "a: [", "a: 2020-13-45", "a: " + 5000 * "[", "\x00"])
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
