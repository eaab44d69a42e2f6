from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from transformers import BertConfig, BertModel

from consilium.domain.errors import InputError
from consilium.domain.targets import OrdinalTarget, SurvivalTarget
from consilium.modalities.image.backbones.backbone import as_map
from consilium.modalities.registry import nonempty_subsets, subset_key
from consilium.modalities.text.wordpiece import train_wordpiece
from consilium.network.diagnosis_model import DiagnosisModel
from consilium.network.fusion import FUSIONS, TRAINED_FUSIONS
from consilium.preprocessing.collate import Preprocessing
from tests.consilium.tiny import ALL, FINDINGS, THREE, WORDS, tiny_model, tiny_preprocessing, tiny_recipe, tiny_study

TWO = (ALL, frozenset({"text"}))


def _fused(name: str) -> tuple[Preprocessing, DiagnosisModel]:
    recipe = tiny_recipe(fusion={"name": name, "width": 16, "depth": 2, "heads": 2})
    preprocessing = tiny_preprocessing(recipe)
    return preprocessing, tiny_model(recipe, preprocessing)


@pytest.mark.parametrize("name", list(FUSIONS))
def test_a_subset_is_the_study_that_never_had_the_rest(name: str) -> None:
    preprocessing, model = _fused(name)
    with torch.no_grad():
        whole = preprocessing.collate([preprocessing.prepare(tiny_study(n)) for n in (1, 2)])
        subsets = model.subsets(model.encode(whole))
        for subset in nonempty_subsets(ALL):
            partial = [preprocessing.prepare(tiny_study(n, subset)) for n in (1, 2)]
            expected = model(preprocessing.collate(partial)).fused
            assert subsets[subset_key(subset)] == pytest.approx(expected, abs=1e-5)
    fused = torch.stack(list(subsets.values()))
    assert len(torch.unique((fused[:, 0, 0] * 1e6).round())) == 7, "every subset must say something of its own"


@pytest.mark.parametrize("name", list(FUSIONS))
def test_a_study_is_answered_alike_alone_and_in_mixed_company(name: str) -> None:
    preprocessing, model = _fused(name)
    items = [preprocessing.prepare(tiny_study(n, subset)) for n, subset in enumerate(nonempty_subsets(ALL))]
    with torch.no_grad():
        together = model(preprocessing.collate(items)).fused
        alone = torch.cat([model(preprocessing.collate([item])).fused for item in items])
    assert torch.isfinite(together).all()
    assert together == pytest.approx(alone, abs=1e-5)


@pytest.mark.parametrize("name", TRAINED_FUSIONS)
def test_targets_are_answered_beside_the_findings(name: str) -> None:
    """By every fusion; and, but where each answer has a query of its own, with the same first weights for the rest."""
    recipe = tiny_recipe(fusion={"name": name, "width": 16, "depth": 2, "heads": 2})
    preprocessing = tiny_preprocessing(recipe)
    targets = (
        OrdinalTarget("severity", "Severity", ("none", "mild", "severe")),
        SurvivalTarget("death", "Death", (9.0,)),
    )
    plain = tiny_model(recipe, preprocessing)
    torch.manual_seed(0)
    model = DiagnosisModel(recipe, replace(FINDINGS, targets=targets), preprocessing).eval()
    batch = preprocessing.collate([preprocessing.prepare(tiny_study(n, subset)) for n, subset in enumerate(TWO)])
    with torch.no_grad():
        logits = model(batch)
        subsets = model.subsets(model.encode(batch))
        before = plain(batch)
    assert before.steps is None
    assert logits.steps is not None
    assert logits.steps.shape == (2, 3)
    assert len(logits.steps.unique()) == 6
    both = torch.cat([logits.fused, logits.steps], dim=1)
    assert subsets[subset_key(ALL)][0] == pytest.approx(both[0], abs=1e-5)
    assert subsets["text"][1] == pytest.approx(both[1], abs=1e-5)
    if name != "perceiver":
        assert torch.equal(logits.fused, before.fused)


def test_late_fusion_adds_log_odds() -> None:
    preprocessing, model = _fused("late")
    with torch.no_grad():
        tokens = model.encode(preprocessing.collate([preprocessing.prepare(tiny_study(1))]))
        subsets = model.subsets(tokens)
        bias = model.head.bias.detach()
    together = sum(subsets[m] - bias for m in THREE) + bias
    assert subsets["image+text+observations"] == pytest.approx(together, abs=1e-5)


@pytest.mark.parametrize("name", TRAINED_FUSIONS)
def test_every_weight_learns(name: str) -> None:
    preprocessing, model = _fused(name)
    logits = model(preprocessing.collate([preprocessing.prepare(tiny_study(n)) for n in range(4)]))
    (logits.fused.square().sum() + sum(o.square().sum() for o in logits.unimodal.values())).backward()
    absent = {"fusion.absent", "encoders.text.model.embeddings.word_embeddings.weight"}
    still = {n for n, p in model.named_parameters() if p.grad is None} - absent
    assert still == set()


@pytest.mark.parametrize(
    ("encoder", "width", "size", "cells"),
    [("resnet18", 8, 128, 32), ("resnet18", 8, 256, 32), ("densenet121", 8, 128, 32), ("vit", 16, 128, 16)],
)
def test_every_image_encoder_gives_a_map_fine_enough(encoder: str, width: int, size: int, cells: int) -> None:
    shape = {"patch": 8, "depth": 2} if encoder == "vit" else {}
    recipe = tiny_recipe(image={"encoder": encoder, "width": width, "size": size} | shape)
    preprocessing = tiny_preprocessing(recipe)
    model = tiny_model(recipe, preprocessing)
    _, trace = model.trace(preprocessing.collate([preprocessing.prepare(tiny_study(1))]))
    assert tuple(as_map(trace.entries["image"]).shape[2:]) == (cells, cells)
    assert torch.autograd.grad(trace.fused[0, 0], trace.entries["image"])[0].abs().sum() > 0


def test_the_average_training_image_is_remembered() -> None:
    recipe = tiny_recipe()
    preprocessing = tiny_preprocessing(recipe)
    model = tiny_model(recipe, preprocessing)
    encoder = model.encoders["image"]
    batches = [preprocessing.collate([preprocessing.prepare(tiny_study(n + k)) for k in range(2)]) for n in (0, 4, 8)]
    model(batches[0])
    assert (encoder.typical == 0.5).all()
    model.train()
    for batch in batches:
        model(batch)
    expected = torch.cat([batch.inputs["image"]["images"][:, 0] for batch in batches]).mean(dim=0)
    assert torch.allclose(encoder.typical, expected, atol=1e-6)
    black = {"images": torch.zeros(2, 1, 1, 128, 128), "mask": torch.ones(2, 1, dtype=torch.bool)}
    for _ in range(300):
        encoder.remember(black)
    assert encoder.typical.max() < 0.3 * expected.max()
    with torch.no_grad():
        there, views = torch.ones(1, 1, dtype=torch.bool), torch.zeros(1, 1).long()
        maps = encoder.eval().traced({"images": encoder.typical[None, None], "mask": there, "views": views})
    assert torch.allclose(encoder.typical_map(), as_map(maps[1]), atol=1e-6)


@pytest.mark.parametrize(
    "image",
    [
        {"encoder": "resnet18", "size": 128, "weights": "/absent.safetensors"},
        {"encoder": "vit", "size": 128, "width": 18, "patch": 8},
        {"encoder": "vit", "size": 128, "width": 16, "patch": 48},
    ],
)
def test_encoders_that_cannot_be_are_refused(image: dict) -> None:
    recipe = tiny_recipe(image=image)
    with pytest.raises(InputError, match=r"modalities\.image\."):
        DiagnosisModel(recipe, FINDINGS, tiny_preprocessing(recipe))


@pytest.mark.parametrize("content", [b"", b"no weights", b"\xff" * 64, b"PK\x03\x04" + bytes(64)])
def test_weights_that_are_no_safetensors_are_refused_in_a_line(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "weights.safetensors").write_bytes(content)
    image = {"encoder": "resnet18", "size": 128, "width": 8, "weights": str(tmp_path / "weights.safetensors")}
    recipe = tiny_recipe(image=image)
    with pytest.raises(
        InputError, match=r"modalities\.image\.weights: got 'weights\.safetensors', must be a safetensors file"
    ) as logged:
        DiagnosisModel(recipe, FINDINGS, tiny_preprocessing(recipe))
    assert "\n" not in str(logged.value)


def test_backbone_weights_come_from_a_safetensors_file_and_frozen_ones_stay(tmp_path: Path) -> None:
    recipe = tiny_recipe()
    preprocessing = tiny_preprocessing(recipe)
    donor = tiny_model(recipe, preprocessing, seed=1)
    path = tmp_path / "backbone.safetensors"
    save_file(donor.encoders["image"].backbone.network.state_dict(), path)
    image = {"encoder": "resnet18", "size": 128, "width": 8, "weights": str(path), "adaptation": {"name": "frozen"}}
    preprocessing = tiny_preprocessing(tiny_recipe(image=image))
    model = tiny_model(preprocessing.recipe, preprocessing, seed=2)
    theirs_and_ours = (m.encoders["image"].backbone.parameters() for m in (donor, model))
    for theirs, ours in zip(*theirs_and_ours, strict=True):
        assert torch.equal(theirs, ours)
        assert not ours.requires_grad
    _, trace = model.trace(preprocessing.collate([preprocessing.prepare(tiny_study(1))]))
    assert torch.autograd.grad(trace.fused[0, 0], trace.entries["image"])[0].abs().sum() > 0


def test_a_hugging_face_model_from_a_local_folder(tmp_path: Path) -> None:
    tokenizer = train_wordpiece([(f"p{i}", " ".join(WORDS)) for i in range(5)], 200)
    tokenizer.save_pretrained(tmp_path)
    torch.manual_seed(3)
    source = BertModel(
        BertConfig(
            vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
        )
    )
    source.save_pretrained(tmp_path)
    recipe = tiny_recipe(text={"model": str(tmp_path), "max_tokens": 32})
    preprocessing = tiny_preprocessing(recipe)
    model = tiny_model(recipe, preprocessing)
    inner = model.encoders["text"].model
    assert torch.equal(inner.embeddings.word_embeddings.weight, source.embeddings.word_embeddings.weight)
    again = DiagnosisModel(recipe, FINDINGS, preprocessing, pretrained=False).eval()
    again.load_state_dict(model.state_dict())
    batch = preprocessing.collate([preprocessing.prepare(tiny_study(1))])
    with torch.no_grad():
        assert torch.equal(again(batch).fused, model(batch).fused)


def test_a_frozen_cache_holds_the_typical_map() -> None:
    encoder = tiny_model(tiny_recipe(), tiny_preprocessing(tiny_recipe())).eval().encoders["image"]
    expected = encoder.typical_map()
    encoder.freeze_cache()
    assert torch.equal(encoder.typical_map(), expected)
    assert not encoder.typical_map().requires_grad
    assert encoder.typical_map() is encoder.typical_map()
