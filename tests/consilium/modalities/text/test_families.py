"""Every family of text models: from a folder to answers, artifact, explanation and backend."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from consilium.domain.study import Study
from consilium.explain.case import Case
from consilium.explain.explainer import units_of
from consilium.inference.backends import build_network
from consilium.inference.self_test import Backend
from consilium.modalities.text import explanation
from consilium.network.diagnosis_model import DiagnosisModel
from consilium.preprocessing.collate import Preprocessing
from tests.consilium.modalities.text.tiny_models import FAMILIES, WINDOW, save_model
from tests.consilium.tiny import FINDINGS, NOON, WORDS, tiny_model, tiny_preprocessing, tiny_recipe, tiny_study
from tests.consilium.tiny_artifact import tiny_calibration


def study_with_notes(number: int, *words: int) -> Study:
    """Notes of as many words each."""
    rng = np.random.default_rng(number)
    (note,) = tiny_study(number).parts["text"]
    notes = tuple(replace(note, text=" ".join(rng.choice(WORDS, count)), time=NOON) for count in words)
    return tiny_study(number).with_parts(text=notes)


LONG = [study_with_notes(1, 9, 7), study_with_notes(2, 20, 11), study_with_notes(3, 2)]


@pytest.fixture(scope="module", params=FAMILIES)
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    return request.param, save_model(request.param, tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="module")
def made(family: tuple[str, Path]) -> tuple[Preprocessing, DiagnosisModel]:
    recipe = tiny_recipe(text={"model": str(family[1]), "max_tokens": 96}, modalities=["text", "observations"])
    preprocessing = tiny_preprocessing(recipe)
    return preprocessing, tiny_model(recipe, preprocessing)


def test_windows_are_as_long_as_the_model_reads(family: tuple[str, Path], made: tuple[Preprocessing, DiagnosisModel]):
    expected = {"modernbert": 2048, "t5": 96}.get(family[0], WINDOW)
    assert made[0].preparations["text"].windows.size == expected


def test_a_study_has_the_same_answer_alone_and_beside_longer_notes(made: tuple[Preprocessing, DiagnosisModel]):
    preprocessing, model = made
    items = [preprocessing.prepare(study) for study in LONG]
    assert max(len(item.parts["text"].arrays["input_ids"]) for item in items) > 2 * WINDOW
    with torch.no_grad():
        together = model(preprocessing.collate(items)).fused
        alone = torch.cat([model(preprocessing.collate([item])).fused for item in items])
    assert torch.allclose(together, alone, atol=1e-5)


def test_every_word_counts_beyond_the_first_window(made: tuple[Preprocessing, DiagnosisModel]):
    preprocessing, model = made
    item = preprocessing.prepare(LONG[1])
    batch = preprocessing.collate([item])
    tokens, trace = model.trace(batch)
    (slope,) = torch.autograd.grad(trace.fused.sum(), trace.entries["text"])
    assert (slope[0].abs().sum(dim=-1) > 0).all()
    with torch.no_grad():
        assert torch.allclose(trace.fused, model(batch).fused, atol=1e-5)
    assert tokens["text"].mask.sum() == len(item.parts["text"].pieces)


def test_a_step_trains_it_and_the_artifacts_weights_give_the_same_answers(family: tuple[str, Path]):
    recipe = tiny_recipe(text={"model": str(family[1]), "max_tokens": 96}, modalities=["text"])
    preprocessing = tiny_preprocessing(recipe)
    model = tiny_model(recipe, preprocessing).train()
    batch = preprocessing.collate([preprocessing.prepare(study) for study in LONG])
    before = {name: weight.detach().clone() for name, weight in model.encoders["text"].named_parameters()}
    step = torch.optim.SGD(model.parameters(), lr=0.1)
    model(batch).fused.square().sum().backward()
    step.step()
    still = {name for name, weight in model.encoders["text"].named_parameters() if torch.equal(weight, before[name])}
    assert len(still) < len(before) / 4, still
    loaded = DiagnosisModel(recipe, FINDINGS, preprocessing, pretrained=False).eval()
    loaded.load_state_dict(model.state_dict())
    with torch.no_grad():
        assert torch.equal(loaded(batch).fused, model.eval()(batch).fused)


def test_the_preparation_in_the_artifact_needs_no_folder(made: tuple[Preprocessing, DiagnosisModel], tmp_path: Path):
    preprocessing, _ = made
    preprocessing.save(tmp_path / "preprocessing")
    again = Preprocessing.load(tmp_path / "preprocessing", preprocessing.recipe)
    ours, theirs = (one.preparations["text"] for one in (preprocessing, again))
    assert theirs.windows == ours.windows
    assert theirs.model.sources == ours.model.sources
    item, other = (one.prepare(LONG[1]).parts["text"] for one in (preprocessing, again))
    assert np.array_equal(item.arrays["input_ids"], other.arrays["input_ids"])


def test_words_of_every_window_are_explained(made: tuple[Preprocessing, DiagnosisModel]):
    preprocessing, model = made
    item = preprocessing.prepare(LONG[1])
    case = Case.of(
        model, preprocessing, tiny_calibration(preprocessing.recipe), item, (), units_of(item, preprocessing)
    )
    words = explanation.words_read(case)
    assert len(words) == 31
    assert {word.note for word, _ in words} == {0, 1}
    weights = {method.name: method.weigh(case, [0, 1]) for method in explanation.EXPLANATION.methods}
    for name, found in weights.items():
        assert found.shape == (2, 31), name
        assert np.isfinite(found).all(), name
        assert (np.abs(found[0]) > 0).mean() > 0.9, name
    # Along the path from average words to these, the weights add up to what the words changed.
    encoder, inputs = model.encoders["text"], case.batch.inputs["text"]
    own = case.traced["text"].detach().clone()
    for _, pieces in words:
        own[:, pieces] = encoder.word_embeddings.weight.detach().mean(dim=0)
    with torch.no_grad():
        average = case.log_odds(case.fuse_with("text", encoder.from_embeddings(inputs, own)))
    changed = (case.log_odds(case.fused) - average)[0]
    assert weights["integrated_gradients"].sum(axis=1) == pytest.approx(
        changed, abs=0.05 * np.abs(changed).max() + 1e-3
    )


@pytest.mark.parametrize("backend", [Backend.OPENVINO, Backend.BF16])
def test_every_backend_runs_it(made: tuple[Preprocessing, DiagnosisModel], backend: Backend):
    preprocessing, model = made
    network = build_network(backend, model.requires_grad_(requires_grad=False), threads=1)
    most = 1e-5 if backend is Backend.OPENVINO else 0.03
    for studies in (LONG, LONG[1:2], LONG[2:]):
        batch = preprocessing.collate([preprocessing.prepare(study) for study in studies])
        with torch.inference_mode():
            assert torch.allclose(network(batch).fused, model(batch).fused, atol=most)
    model.requires_grad_()
