"""Notes in which one word decides: the linear model finds it, says so exactly, and keeps its words as JSON."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from consilium.modalities.text.note import Note, NoteKind
from tests.consilium.tiny import FINDINGS
from tests.training.cohorts_made import tiny_training_recipe
from training.cohorts.cohort import Cohort, StudyRecord
from training.data.cached_cohort import CachedCohort, cache_cohort
from training.data.datamodule import StudyDataset, study_loader
from training.evaluation.predict import predict
from training.fitting.closed_form.fit_stacked import fit_stacked
from training.fitting.fit import Fit

COMMON = ["fever", "cough", "dyspnoea", "wheeze", "sputum", "chills", "fatigue", "pain", "days", "since", "mild", "dry"]
DECIDES = "intubated"
RECIPE = tiny_training_recipe(
    modalities=["text"], text={"units": "words", "vocabulary": 200}, fusion={"name": "stacked", "width": 32}
)
TRAIN, TEST = np.arange(120), np.arange(120, 200)


@pytest.fixture(scope="module")
def cached(tmp_path_factory: pytest.TempPathFactory) -> CachedCohort:
    """The first finding is there where the note has that word, among eight others drawn at random."""
    rng, records = np.random.default_rng(0), []
    for number in range(200):
        ill = number % 2
        words = [*rng.choice(COMMON, 8), *([DECIDES] * ill)]
        note = Note(NoteKind.HISTORY, " ".join(rng.permutation(words)))
        labels = np.array([ill, np.nan], np.float32)
        records.append(StudyRecord(f"s{number}", f"p{number}", labels, {}, {"text": (note,)}))
    folder = tmp_path_factory.mktemp("words")
    return cache_cohort(Cohort("words", FINDINGS, tuple(records), folder, "0" * 64), RECIPE, folder / "cache")


@pytest.fixture(scope="module")
def fitted(cached: CachedCohort) -> Fit:
    return fit_stacked(cached, RECIPE, TRAIN)


def test_the_word_that_decides_is_found(cached: CachedCohort, fitted: Fit) -> None:
    predictions = predict(fitted.model, fitted.preprocessing, cached, TEST, RECIPE)
    assert roc_auc_score(predictions.labels[:, 0], predictions.fused["text"][:, 0]) > 0.99


def test_what_the_words_add_is_the_logit_and_the_word_that_decides_adds_most(cached: CachedCohort, fitted: Fit) -> None:
    dataset = StudyDataset(cached, fitted.preprocessing, TEST[1:2])
    (batch,) = study_loader(dataset, fitted.preprocessing, RECIPE)
    encoder, inputs = fitted.model.encoders["text"], batch.inputs["text"]
    with torch.enable_grad():
        _, trace = fitted.model.trace(batch)
        (slope,) = torch.autograd.grad(trace.fused[:, 0].sum(), trace.entries["text"], retain_graph=True)
    added = (trace.entries["text"].detach() * slope).sum(dim=-1)[0]
    with torch.no_grad():
        blank = encoder.from_embeddings(inputs, torch.zeros_like(trace.entries["text"]))
        without = fitted.model.fuse({"text": fitted.model.read("text", blank)})
    assert float(added.sum() + without[0, 0]) == pytest.approx(float(trace.fused.detach()[0, 0]), abs=1e-5)
    tokens = fitted.preprocessing.preparations["text"].tokenizer.convert_ids_to_tokens(inputs["input_ids"][0])
    assert tokens[int(added.argmax())] == DECIDES


def test_the_vocabulary_travels_as_json(fitted: Fit, tmp_path: Path) -> None:
    fitted.preprocessing.save(tmp_path / "preprocessing")
    (path,) = (tmp_path / "preprocessing").rglob("tokenizer.json")
    vocabulary = json.loads(path.read_text())["model"]["vocab"]
    assert {*COMMON, DECIDES} <= set(vocabulary)
