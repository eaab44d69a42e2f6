"""What is read from a Hugging Face model's own files, and what is wrong with others."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoModel, BertConfig, BertModel

from consilium.domain.errors import InputError
from consilium.modalities.image.backbones.choice import build, describe
from consilium.modalities.image.backbones.hugging_face import resized
from consilium.modalities.image.section import ImageSection
from tests.consilium.modalities.image.backbones.tiny_models import PREPROCESSOR, write_model


@pytest.fixture(scope="module")
def dinov2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("models"), "dinov2")


@pytest.fixture
def copied(dinov2: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(dinov2, tmp_path / "mine"))


def test_pixels_positions_and_licence_are_the_model_s_own(dinov2: Path) -> None:
    section = ImageSection(encoder=str(dinov2), size=64)
    description = describe(section)
    assert description.input.channels == 3
    assert description.input.mean == (0.53, 0.53, 0.53)
    assert (description.input.low, description.input.high) == (0.0, pytest.approx(1.0))
    assert description.input.size == 32
    assert description.input.resizing == "shortest edge 36, centre crop 32 × 32"
    (source,) = description.sources
    assert (source.architecture, source.source, source.licence) == ("dinov2", "dinov2", "apache-2.0")
    backbone = build(section, description, pretrained=True).eval()
    grey = torch.rand(2, 1, 64, 64)
    with torch.no_grad():
        expected = AutoModel.from_pretrained(dinov2, local_files_only=True).eval()(
            ((grey - 0.53) / 0.26).expand(2, 3, 64, 64)
        )
        found = backbone(grey)
    patches = expected.last_hidden_state[:, 1:].transpose(1, 2).reshape(2, 16, 16, 16)
    assert torch.allclose(found, patches, atol=1e-4), "positions must be interpolated as the model's own code does"


def test_a_licence_in_the_recipe_comes_before_that_of_the_readme(dinov2: Path) -> None:
    (source,) = describe(ImageSection(encoder=str(dinov2), size=64, licence="mine")).sources
    assert source.licence == "mine"
    with pytest.raises(InputError, match=r"modalities\.image\.licence: got 'mine', must be left out"):
        ImageSection(encoder="resnet18", licence="mine")


@pytest.mark.parametrize(
    ("changed", "low", "high", "mean"),
    [
        ({"do_rescale": False}, 0, 255, 0.53),
        ({"rescale_factor": 1 / 127.5, "rescale_offset": True, "do_normalize": False}, -1, 1, 0),
        ({"do_normalize": False, "image_mean": None}, 0, 1, 0),
        ({"image_mean": 0.4, "image_std": [0.2]}, 0, 1, 0.4),
    ],
)
def test_the_range_of_grey_levels_is_that_of_the_preprocessor(
    copied: Path, changed: dict[str, object], low: float, high: float, mean: float
) -> None:
    (copied / "preprocessor_config.json").write_text(json.dumps(PREPROCESSOR | changed))
    found = describe(ImageSection(encoder=str(copied), size=64)).input
    assert (found.low, found.high, found.mean) == (low, pytest.approx(high), (mean,) * 3)


def test_a_newer_folder_says_it_in_its_processor_s_file(copied: Path) -> None:
    (copied / "preprocessor_config.json").unlink()
    (copied / "processor_config.json").write_text(json.dumps({"image_processor": PREPROCESSOR}))
    assert describe(ImageSection(encoder=str(copied), size=64)).input.mean == (0.53, 0.53, 0.53)


def test_random_weights_on_request(dinov2: Path) -> None:
    section = ImageSection(encoder=str(dinov2), size=64, weights="random")
    description = describe(section)
    assert description.sources == ()
    first, second = (build(section, description, pretrained=True) for _ in range(2))
    assert not torch.equal(first.network.embeddings.cls_token, second.network.embeddings.cls_token)


def test_what_the_map_does_not_depend_on_is_no_weight_to_train(dinov2: Path) -> None:
    section = ImageSection(encoder=str(dinov2), size=64)
    backbone = build(section, describe(section), pretrained=True)
    assert "network.embeddings.mask_token" not in dict(backbone.named_parameters())
    assert "network.embeddings.mask_token" in backbone.state_dict()


def test_positions_of_other_grids_are_interpolated_and_other_tokens_kept() -> None:
    row = torch.arange(4.0).repeat(4)[:, None].expand(16, 2)
    theirs = torch.cat([torch.full((3, 2), 9.0), row])[None]
    found = resized("embeddings.position_embeddings", theirs, torch.zeros(1, 3 + 64, 2))
    assert torch.equal(found[0, :3], torch.full((3, 2), 9.0))
    rows = found[0, 3:, 0].reshape(8, 8)
    assert torch.allclose(rows, rows[:1].expand(8, 8), atol=1e-5)
    assert (rows[0, 1:] >= rows[0, :-1] - 0.2).all()
    assert rows[0, 0] < 0.5
    assert rows[0, -1] > 2.5
    assert resized("other.weight", theirs, torch.zeros(1, 3 + 64, 2)) is theirs


# --- wrong folders ---------------------------------------------------------------------------------------------------


def _without_a_weight(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    del tensors["layernorm.weight"]
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def _of_words(folder: Path) -> None:
    config = BertConfig(vocab_size=9, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8)
    BertModel(config).save_pretrained(folder)


def _html(folder: Path) -> None:
    (folder / "model.safetensors").write_text("<!DOCTYPE html>")


def _pickled(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


WRONG: dict[str, tuple[Callable[[Path], object], str]] = {
    "no config": (lambda f: (f / "config.json").unlink(), "must be a folder with a config.json of a vision model"),
    "no JSON": (lambda f: (f / "config.json").write_text("<html>"), "must be a folder with a config.json"),
    "words": (_of_words, "must be a vision model; a bert reads input_ids"),
    "no preprocessor": (lambda f: (f / "preprocessor_config.json").unlink(), "must have a preprocessor_config.json"),
    "a preprocessor that is no object": (
        lambda f: (f / "preprocessor_config.json").write_text("[1]"),
        "must have a preprocessor_config.json",
    ),
    "no mean": (
        lambda f: (f / "preprocessor_config.json").write_text("{}"),
        "must say in preprocessor_config.json with which image_mean",
    ),
    "a mean of two channels": (
        lambda f: (f / "preprocessor_config.json").write_text(json.dumps(PREPROCESSOR | {"image_mean": [1, 2]})),
        "must say in preprocessor_config.json",
    ),
    "pickled weights": (_pickled, r"must have its weights as model\.safetensors"),
    "a page in place of weights": (_html, "must be a whole Hugging Face model"),
    "a weight is missing": (_without_a_weight, r"must have all of its weights; layernorm\.weight is missing"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_wrong_folder_ends_in_one_line(kind: str, copied: Path) -> None:
    make, expected = WRONG[kind]
    make(copied)
    section = ImageSection(encoder=str(copied), size=64)
    with pytest.raises(InputError, match=rf"^modalities\.image\.encoder: got .*{expected}") as error:
        build(section, describe(section), pretrained=True)
    assert "\n" not in str(error.value)


def test_sizes_that_do_not_fit_the_patches_are_refused(dinov2: Path) -> None:
    section = ImageSection(encoder=str(dinov2), size=70)
    with pytest.raises(InputError, match="size: got 70, must be a multiple of 4"):
        build(section, describe(section), pretrained=False)


def test_a_map_that_is_too_coarse_says_which_size_is_enough(tmp_path: Path) -> None:
    folder = write_model(tmp_path, "vit", patch_size=8)
    section = ImageSection(encoder=str(folder), size=64)
    with pytest.raises(InputError, match="map of 8 cells a side, must give 14; take 112 pixels"):
        build(section, describe(section), pretrained=False)


# --- the hub ---------------------------------------------------------------------------------------------------------


def test_a_hub_id_without_a_network_says_what_to_download_where(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError) as error:
        describe(ImageSection(encoder="microsoft/rad-dino", size=224))
    printed = str(error.value)
    assert "`hf download microsoft/rad-dino --local-dir rad-dino`" in printed
    assert "modalities.image.encoder=./rad-dino" in printed
    assert "\n" not in printed


def test_a_folder_never_asks_the_hub(dinov2: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    def refused(*arguments: object, **options: object) -> None:
        raise AssertionError(f"a connection to {arguments}")

    monkeypatch.setattr(socket, "getaddrinfo", refused)
    monkeypatch.setattr(socket.socket, "connect", refused)
    section = ImageSection(encoder=str(dinov2), size=64)
    assert build(section, describe(section), pretrained=True).cells == 16


@pytest.mark.parametrize("name", ["./absent", "/absent/model", "a/b/c", "~/absent"])
def test_a_folder_that_is_not_there_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"modalities\.image\.encoder: got .*must be a folder that exists"):
        describe(ImageSection(encoder=name, size=64))
