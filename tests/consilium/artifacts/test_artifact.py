from __future__ import annotations

import hashlib
import json
import os
import pickle
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertModel

from consilium import __version__
from consilium.artifacts import artifact
from consilium.artifacts.artifact import Artifact, load_artifact, save_artifact
from consilium.artifacts.manifest import verify
from consilium.artifacts.reference_studies import References
from consilium.domain.diagnosis import AuditVerdict
from consilium.domain.errors import ArtifactError
from consilium.modalities.registry import nonempty_subsets, subset_key
from consilium.modalities.text.wordpiece import train_wordpiece
from consilium.preprocessing.collate import Preprocessing
from tests.consilium.tiny import THREE, WORDS, tiny_model, tiny_recipe, tiny_study
from tests.consilium.tiny_artifact import tiny_artifact, tiny_detector, tiny_inputs


@pytest.fixture(scope="module")
def trained() -> Artifact:
    return tiny_artifact()


@pytest.fixture(scope="module")
def saved(trained: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("artifacts") / "tiny"
    save_artifact(folder, trained)
    return folder


@pytest.fixture
def copied(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "tiny"))


def _relist(folder: Path) -> None:
    """A forger's manifest: everything in the folder, with digests that are right."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != "manifest.json"]
    listed = {
        path.relative_to(folder).as_posix(): {
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            "size": path.stat().st_size,
        }
        for path in files
    }
    _write_manifest(folder, files=listed)


def _write_manifest(folder: Path, **keys: object) -> None:
    path = folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | keys))


def test_what_is_loaded_answers_like_what_was_saved(trained: Artifact, saved: Path) -> None:
    loaded = load_artifact(saved)
    assert loaded.recipe == trained.recipe
    assert loaded.findings == trained.findings
    assert loaded.calibration == trained.calibration
    assert not loaded.model.training
    for subset in nonempty_subsets(THREE):
        studies = [tiny_study(n, subset) for n in range(100, 104)]
        with torch.no_grad():
            before, after = (
                one.model(one.preprocessing.collate([one.preprocessing.prepare(study) for study in studies])).fused
                for one in (trained, loaded)
            )
        assert torch.equal(before, after)
        key = subset_key(subset)
        assert (trained.calibration.probabilities(before, key) == loaded.calibration.probabilities(after, key)).all()


def test_what_the_answer_needs_besides_comes_back(trained: Artifact, saved: Path) -> None:
    loaded = load_artifact(saved)
    assert trained.detector is not None
    assert loaded.detector is not None
    inputs = tiny_inputs(trained.preprocessing, trained.model, 2000, 4)
    for part, scores in trained.detector.score(inputs).items():
        assert torch.equal(scores, loaded.detector.score(inputs)[part])
        assert torch.equal(trained.detector.ordinary[part], loaded.detector.ordinary[part])
    assert trained.neighbours is not None
    assert loaded.neighbours is not None
    assert loaded.neighbours.pseudonyms == trained.neighbours.pseudonyms
    assert loaded.audit == AuditVerdict("sound")
    assert loaded.references.studies == trained.references.studies
    assert (loaded.references.probabilities == trained.references.probabilities).all()
    assert loaded.card == trained.card
    assert set(loaded.card) == {"card.md", "card.html"}


def test_an_artifact_without_what_a_recipe_can_do_without(trained: Artifact, tmp_path: Path) -> None:
    bare = replace(
        trained,
        recipe=tiny_recipe(refer={"out_of_distribution": None}),
        detector=None,
        neighbours=None,
        audit=AuditVerdict(),
        card={},
        monitoring=None,
    )
    save_artifact(tmp_path / "bare", bare)
    loaded = load_artifact(tmp_path / "bare")
    assert loaded.detector is loaded.neighbours is loaded.monitoring is None
    assert loaded.card == {}
    assert loaded.audit.verdict == "not audited"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"detector": None}, "must be there where"),
        ({"recipe": tiny_recipe(refer={"out_of_distribution": None})}, "and only where"),
        ({"recipe": tiny_recipe(modalities=["image", "text"])}, "must know fused, image, text"),
        ({"card": {"card.pdf": ""}}, "card.pdf"),
    ],
)
def test_parts_that_do_not_belong_together_are_refused(
    trained: Artifact, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ArtifactError, match=message):
        replace(trained, **changes)


def test_a_reference_for_monitoring_of_another_model_is_refused(trained: Artifact) -> None:
    assert trained.monitoring is not None
    fewer = {part: one for part, one in trained.monitoring.projections.items() if part != "image"}
    with pytest.raises(ArtifactError, match="monitoring: must know fused, image, observations, text and each"):
        replace(trained, monitoring=replace(trained.monitoring, projections=fewer))


def test_details_come_back_with_the_versions_that_wrote_them(saved: Path) -> None:
    details = load_artifact(saved).details
    assert details["studies"] == 30
    assert details["consilium"] == __version__
    assert details["packages"]["torch"].startswith("2.")


def test_the_digest_is_that_of_the_manifest_and_the_same_every_time(tmp_path: Path, saved: Path) -> None:
    digest = save_artifact(tmp_path / "again", tiny_artifact())
    assert digest == hashlib.sha256((tmp_path / "again" / "manifest.json").read_bytes()).hexdigest()
    assert digest == verify(tmp_path / "again") == verify(saved)
    assert digest != save_artifact(tmp_path / "other", tiny_artifact(seed=1))


def _each_file(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_every_file_is_guarded_against_change_truncation_and_loss(saved: Path, tmp_path: Path) -> None:
    names = _each_file(saved)
    assert "preprocessing/text/tokenizer/tokenizer.json" in names
    for number, name in enumerate(n for n in names if n != "manifest.json"):
        for kind in ("changed", "truncated", "lost"):
            folder = Path(shutil.copytree(saved, tmp_path / f"{number}-{kind}"))
            data = bytearray((folder / name).read_bytes())
            if kind == "changed":
                data[len(data) // 2] ^= 1
                (folder / name).write_bytes(data)
            elif kind == "truncated":
                (folder / name).write_bytes(data[:-1])
            else:
                (folder / name).unlink()
            with pytest.raises(ArtifactError, match=re.escape(name)):
                load_artifact(folder)


def _link(folder: Path) -> None:
    (folder / "details.json").rename(folder.parent / "elsewhere.json")
    (folder / "details.json").symlink_to(folder.parent / "elsewhere.json")


def _linked_folder(folder: Path) -> None:
    (folder / "preprocessing").rename(folder.parent / "elsewhere")
    (folder / "preprocessing").symlink_to(folder.parent / "elsewhere")


def _listing(folder: Path, name: str) -> None:
    listed = json.loads((folder / "manifest.json").read_text())["files"]
    _write_manifest(folder, files=listed | {name: listed["details.json"]})


def _without(folder: Path, name: str) -> None:
    (folder / name).unlink()
    _relist(folder)


SPOILED: dict[str, tuple[Callable[[Path], object], str]] = {
    "extra file": (lambda f: (f / "weights.pkl").write_bytes(pickle.dumps(1)), "weights.pkl: is not in the manifest"),
    "no manifest": (lambda f: (f / "manifest.json").unlink(), "manifest.json: is missing"),
    "linked file": (_link, "details.json: must be a plain file"),
    "linked folder": (_linked_folder, "preprocessing: must be a plain file"),
    "device": (lambda f: os.mkfifo(f / "pipe"), "pipe: must be a plain file"),
    "leaves by ..": (lambda f: _listing(f, "../tiny/details.json"), "plain path of a file inside"),
    "leaves by root": (lambda f: _listing(f, "/etc/hostname"), "plain path of a file inside"),
    "odd path": (lambda f: _listing(f, "./details.json"), "plain path of a file inside"),
    "newer format": (lambda f: _write_manifest(f, format=9, shape="new"), "got format 9, .* reads format 8 alone"),
    "older format": (lambda f: _write_manifest(f, format=7), "got format 7, .* reads format 8 alone"),
    "detector left out": (
        lambda f: _without(f, "out_of_distribution.safetensors"),
        "out_of_distribution.safetensors: must be there where",
    ),
    "no reference studies": (
        lambda f: _without(f, "reference/studies.json"),
        "must list reference/studies.json",
    ),
    "a reference image left out": (lambda f: _without(f, "reference/00-images-0"), "reference: .*FileNotFoundError"),
    "no audit": (lambda f: _without(f, "audit.json"), "must list audit.json"),
    "newer consilium": (lambda f: _write_manifest(f, consilium="9.0.0"), "got consilium '9.0.0'"),
    "no version": (lambda f: _write_manifest(f, consilium="latest"), "got consilium 'latest'"),
    "unknown key": (lambda f: _write_manifest(f, run="rm"), "run: extra inputs are not permitted"),
    "no JSON": (lambda f: (f / "manifest.json").write_text("{"), "must be JSON"),
    "a list": (lambda f: (f / "manifest.json").write_text("[]"), "must be JSON"),
    "needed file left out": (lambda f: _without(f, "calibration.json"), "must list calibration.json"),
}


@pytest.mark.parametrize("kind", SPOILED)
def test_a_spoiled_folder_is_refused_by_name(copied: Path, kind: str) -> None:
    spoil, message = SPOILED[kind]
    spoil(copied)
    with pytest.raises(ArtifactError, match=message):
        load_artifact(copied)


def test_no_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="must be a model folder"):
        verify(tmp_path / "nowhere")


def _other_shape(weights: dict[str, torch.Tensor]) -> None:
    weights["head.weight"] = torch.zeros(3, 16)


def _not_finite(weights: dict[str, torch.Tensor]) -> None:
    weights["head.bias"] = torch.full_like(weights["head.bias"], torch.nan)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda weights: weights.pop("head.bias"), "Missing key"),
        (lambda weights: weights.update(more=torch.zeros(1)), "Unexpected key|loading state_dict"),
        (_other_shape, "loading state_dict"),
        (_not_finite, "must be finite"),
    ],
)
def test_weights_of_another_model_are_refused_though_their_digest_is_right(
    copied: Path, change: Callable[[dict[str, torch.Tensor]], object], message: str
) -> None:
    weights = load_file(copied / "model.safetensors")
    change(weights)
    save_file(weights, copied / "model.safetensors")
    _relist(copied)
    with pytest.raises(ArtifactError, match=r"model\.safetensors: ") as caught:
        load_artifact(copied)
    assert re.search(message, str(caught.value.__cause__ or caught.value))


def test_a_pickle_in_place_of_the_weights_is_never_opened(copied: Path, tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, ...]:
            return os.mkdir, (str(tmp_path / "exploded"),)

    (copied / "model.safetensors").write_bytes(pickle.dumps(Bomb()))
    _relist(copied)
    with pytest.raises(ArtifactError, match=r"model\.safetensors"):
        load_artifact(copied)
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("recipe.yaml", "name: tiny\nimagee: {}\n"),
        ("recipe.yaml", "!!python/object/apply:os.system ['true']"),
        ("findings.json", '{"findings": [], "exclusive": false}'),
        ("calibration.json", "{}"),
        ("details.json", "1"),
        ("audit.json", "{}"),
        ("out_of_distribution.safetensors", "not a tensor"),
        ("neighbours/neighbours.json", "{}"),
        ("reference/studies.json", '{"studies": []}'),
        ("preprocessing/preprocessing.json", "{}"),
    ],
)
def test_nonsense_with_a_right_digest_is_refused_by_name(copied: Path, name: str, text: str) -> None:
    (copied / name).write_text(text)
    _relist(copied)
    with pytest.raises(ArtifactError, match=re.escape(name.split("/", maxsplit=1)[0])):
        load_artifact(copied)


def test_a_failed_save_leaves_nothing(trained: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(artifact, "describe", full)
    with pytest.raises(OSError, match="no space"):
        save_artifact(tmp_path / "model", trained)
    assert list(tmp_path.iterdir()) == []


def test_an_existing_folder_is_never_written_over(trained: Artifact, copied: Path) -> None:
    before = verify(copied)
    with pytest.raises(ArtifactError, match="does not exist yet"):
        save_artifact(copied, trained)
    assert verify(copied) == before


def test_no_note_and_no_pixel_is_inside(trained: Artifact, saved: Path) -> None:
    inside = b"\n".join(path.read_bytes() for path in saved.rglob("*") if path.is_file())
    preprocessing = trained.preprocessing
    for study in (tiny_study(number) for number in range(30)):
        for record in (study.parts["text"][0].text, f'"{study.study_id}"', f'"{study.patient_id}"'):
            assert record.encode() not in inside
        assert study.parts["image"][0].pixels.tobytes()[:64] not in inside
        assert preprocessing.preparations["image"].convert(study.parts["image"][0])[64].tobytes() not in inside
    vocabulary = json.loads((saved / "preprocessing/text/tokenizer/tokenizer.json").read_text())["model"]["vocab"]
    assert set(WORDS) <= set(vocabulary), "words that many patients share are learned"
    for piece in vocabulary:
        assert " " not in piece


def test_a_word_of_one_patient_is_not_in_the_vocabulary(tmp_path: Path) -> None:
    notes = [(f"p{n}", "history: fever and cough") for n in range(10)] + [("p10", "history: fever in Zaphodius")] * 5
    train_wordpiece(notes, 200).save_pretrained(tmp_path)
    inside = b"".join(path.read_bytes() for path in tmp_path.iterdir()).lower()
    assert b"fever" in inside
    assert b"zaphod" not in inside


def test_a_hugging_face_model_travels_whole(trained: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once saved, neither the hub nor the local folder that the text model came from is needed."""
    tokenizer = trained.preprocessing.preparations["text"].tokenizer
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
    )
    BertModel(config).save_pretrained(tmp_path / "bert")
    tokenizer.save_pretrained(tmp_path / "bert")
    recipe = tiny_recipe(text={"model": str(tmp_path / "bert"), "max_tokens": 32})
    preprocessing = Preprocessing.fit(recipe, [tiny_study(n) for n in range(30)])
    model = tiny_model(recipe, preprocessing)
    detector = tiny_detector(preprocessing, model, tiny_inputs(preprocessing, model, 0))
    parts = (recipe, trained.findings, preprocessing, model, trained.calibration, {}, detector)
    studies = trained.references.studies
    references = References.answered(studies, preprocessing, model, trained.calibration)
    save_artifact(tmp_path / "model", Artifact(*parts, references=references))
    shutil.rmtree(tmp_path / "bert")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    loaded = load_artifact(tmp_path / "model")
    batch = preprocessing.collate([preprocessing.prepare(tiny_study(5))])
    with torch.no_grad():
        assert torch.equal(loaded.model(batch).fused, model(batch).fused)
