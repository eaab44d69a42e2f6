"""Pretrained encoders as a folder: what is stored, and how a recipe starts from it."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest
import torch

from consilium.artifacts.model_registry import resolve
from consilium.artifacts.pretrained_encoders import (
    PretrainedEncoders,
    encoder_starts,
    load_encoders,
    resolve_encoders,
    save_encoders,
)
from consilium.configuration.recipe import Recipe
from consilium.domain.errors import ArtifactError, InputError
from consilium.modalities.weight_source import require_licences
from consilium.network.aligned_encoders import AlignedEncoders
from consilium.network.diagnosis_model import DiagnosisModel
from consilium.preprocessing.collate import Preprocessing
from tests.consilium.tiny import FINDINGS, TEXT, tiny_recipe, tiny_study

PRETRAINING = {
    "objectives": {"clip": 1.0},
    "width": 8,
    "stages": [{"name": "reports", "modalities": {"text": {"note_kinds": ["findings", "history"]}}}],
}
STUDIES = [tiny_study(number) for number in range(12)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from consilium.configuration.pretraining_stages import recipe_of_stages

    recipe = tiny_recipe(name="encoders-tiny", pretraining=PRETRAINING)
    reads_all = recipe_of_stages(recipe)
    preprocessing = Preprocessing.fit(reads_all, STUDIES)
    torch.manual_seed(3)
    model = AlignedEncoders(reads_all, preprocessing)
    place = tmp_path_factory.mktemp("encoders") / "folder"
    save_encoders(place, PretrainedEncoders(recipe, preprocessing, model, {"verdict": "sound"}, {}, "# Card\n"))
    return place


def started(folder: Path, **sections: object) -> tuple[Recipe, Preprocessing]:
    image = {"encoder": "resnet18", "size": 128, "width": 8, "weights": str(folder)}
    recipe = tiny_recipe(**({"image": image, "text": {**TEXT, "weights": str(folder)}} | sections))
    # Other studies: what is learned anew would differ.
    others = [tiny_study(number) for number in range(40, 60)]
    return recipe, Preprocessing.fit(recipe, others, starts=encoder_starts(recipe))


def test_what_is_saved_is_loaded_to_the_bit(folder: Path) -> None:
    loaded = load_encoders(folder)
    assert loaded.recipe.pretraining.all_stages[0].name == "reports"
    assert loaded.audit == {"verdict": "sound"}
    assert not loaded.model.training
    batch = loaded.preprocessing.collate([loaded.preprocessing.prepare(study) for study in STUDIES])
    again = load_encoders(folder).model.encode(batch)
    for name, tokens in loaded.model.encode(batch).items():
        assert torch.equal(tokens.values, again[name].values)


def test_a_recipe_starts_from_their_weights_and_their_tokenizer(folder: Path) -> None:
    recipe, preprocessing = started(folder)
    model = DiagnosisModel(recipe, FINDINGS, preprocessing)
    for name in ("image", "text"):
        state = load_encoders(folder).model.encoders[name].state_dict()
        assert all(torch.equal(tensor, state[key]) for key, tensor in model.encoders[name].state_dict().items())
    pretrained = load_encoders(folder).preprocessing.preparations["text"]
    assert preprocessing.preparations["text"].digest == pretrained.digest
    # The section is the recipe's own: what only pretraining may read is not read.
    assert preprocessing.preparations["text"].section.answers_read == ()
    # Values are not pretrained in this recipe, and are learned from its own studies.
    assert (
        preprocessing.preparations["observations"].digest
        != load_encoders(folder).preprocessing.preparations["observations"].digest
    )


def test_a_model_names_the_encoders_that_it_began_from(folder: Path, tmp_path: Path) -> None:
    recipe, preprocessing = started(folder)
    digest = hashlib.sha256((folder / "manifest.json").read_bytes()).hexdigest()
    preprocessing.save(tmp_path / "state")

    sources = Preprocessing.load(tmp_path / "state", recipe).weight_sources
    assert sources == preprocessing.weight_sources
    assert {name: (one.architecture, one.sha256, one.licence) for name, (one,) in sources.items()} == {
        "image": ("ImageEncoder", digest, "own"),
        "text": ("TextEncoder", digest, "own"),
    }
    require_licences(sources, [])  # own weights need none


def test_a_stored_model_needs_the_encoders_no_more(folder: Path, tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    shutil.copytree(folder, gone)
    recipe, preprocessing = started(gone)
    preprocessing.save(tmp_path / "preprocessing")
    shutil.rmtree(gone)
    loaded = Preprocessing.load(tmp_path / "preprocessing", recipe)
    assert loaded.digest == preprocessing.digest
    DiagnosisModel(recipe, FINDINGS, loaded, pretrained=False)


def test_weights_that_do_not_fit_are_refused(folder: Path) -> None:
    recipe, preprocessing = started(folder, fusion={"name": "concat", "width": 32, "depth": 1, "heads": 2})
    with pytest.raises(InputError, match=r"must fit the section's sizes and fusion\.width"):
        DiagnosisModel(recipe, FINDINGS, preprocessing)


def test_the_text_model_is_the_pretrained_one_whatever_the_numbers_beside_it(folder: Path) -> None:
    _, preprocessing = started(folder, text={**TEXT, "depth": 2, "weights": str(folder)})
    assert preprocessing.preparations["text"].config["num_hidden_layers"] == 1


def test_a_closed_form_starts_from_their_bodies(folder: Path) -> None:
    recipe, preprocessing = started(folder, fusion={"name": "stacked"})
    model = DiagnosisModel(recipe, FINDINGS, preprocessing)
    pretrained = load_encoders(folder).model.encoders
    for name in ("image", "text"):
        body, expected = model.encoders[name].body.state_dict(), pretrained[name].body.state_dict()
        assert body.keys() == expected.keys()
        assert all(torch.equal(tensor, expected[key]) for key, tensor in body.items())


def test_low_rank_changes_are_added_to_the_pretrained_weights(folder: Path) -> None:
    text = {**TEXT, "weights": str(folder), "adaptation": {"name": "lora", "rank": 2}}
    recipe, preprocessing = started(folder, text=text)
    model = DiagnosisModel(recipe, FINDINGS, preprocessing).eval()
    batch = preprocessing.collate([preprocessing.prepare(study) for study in STUDIES])
    expected = load_encoders(folder).model.encoders["text"](batch.inputs["text"])
    assert any("lora" in name for name, _ in model.encoders["text"].named_parameters())
    assert torch.equal(model.encoders["text"](batch.inputs["text"]).values, expected.values)


def test_another_size_of_the_image_is_refused_by_name(folder: Path) -> None:
    image = {"encoder": "resnet18", "size": 64, "width": 8, "weights": str(folder)}
    recipe, preprocessing = started(folder, image=image)
    with pytest.raises(InputError, match=r"modalities\.image\.weights.*position is \[16, 16\] there and \[4, 16\]"):
        DiagnosisModel(recipe, FINDINGS, preprocessing)


def test_another_architecture_is_refused(folder: Path) -> None:
    image = {"encoder": "vit", "size": 128, "patch": 8, "width": 16, "weights": str(folder)}
    recipe, preprocessing = started(folder, image=image)
    with pytest.raises(InputError, match="is in one of them only"):
        DiagnosisModel(recipe, FINDINGS, preprocessing)


def test_weights_that_nothing_reads_are_refused() -> None:
    recipe = tiny_recipe(text={**TEXT, "weights": "words.safetensors"})
    preprocessing = Preprocessing.fit(recipe, STUDIES)
    with pytest.raises(InputError, match=r"modalities\.text\.weights: got 'words\.safetensors', must be a folder of"):
        DiagnosisModel(recipe, FINDINGS, preprocessing)


def test_encoders_of_other_modalities_are_refused(folder: Path, tmp_path: Path) -> None:
    recipe = tiny_recipe(name="encoders-two", modalities=["image", "text"])
    preprocessing = Preprocessing.fit(recipe, STUDIES)
    two = PretrainedEncoders(recipe, preprocessing, AlignedEncoders(recipe, preprocessing), {}, {}, "")
    save_encoders(tmp_path / "two", two)
    with pytest.raises(InputError, match="must be encoders of observations; these are of image, text"):
        encoder_starts(tiny_recipe(observations={"width": 8, "weights": str(tmp_path / "two")}))


def test_encoders_that_several_modalities_name_are_read_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read, load = [], load_encoders

    def noted(place: Path) -> PretrainedEncoders:
        read.append(place)
        return load(place)

    monkeypatch.setattr("consilium.artifacts.pretrained_encoders.load_encoders", noted)
    recipe, preprocessing = started(folder)
    DiagnosisModel(recipe, FINDINGS, preprocessing)
    assert read == [folder]


def test_encoders_that_nobody_resolved_are_refused(folder: Path) -> None:
    recipe, _ = started(folder)
    with pytest.raises(InputError, match=r"modalities\.image\.weights: .* must be resolved before"):
        Preprocessing.fit(recipe, STUDIES)


def test_altered_encoders_are_refused(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    recipe = (copy / "recipe.yaml").read_text()
    (copy / "recipe.yaml").write_text(recipe.replace("seed: 7", "seed: 8"))
    with pytest.raises(ArtifactError, match=r"recipe\.yaml: was altered"):
        load_encoders(copy)


def test_encoders_are_no_model_and_a_model_no_encoders(folder: Path, tiny_folder: Path) -> None:
    with pytest.raises(ArtifactError, match="got pretrained encoders, must be a model"):
        resolve(str(folder))
    with pytest.raises(ArtifactError, match="got a model, must be pretrained encoders"):
        resolve_encoders(str(tiny_folder))
    assert len(resolve_encoders(str(folder)).identity.manifest_digest) == 64


def test_an_existing_folder_is_not_written_over(folder: Path) -> None:
    encoders = load_encoders(folder)
    with pytest.raises(ArtifactError, match="must be a folder that does not exist yet"):
        save_encoders(folder, encoders)
    assert json.loads((folder / "audit.json").read_text()) == {"verdict": "sound"}
