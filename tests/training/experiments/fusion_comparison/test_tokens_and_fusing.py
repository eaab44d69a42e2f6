"""Tokens as the encoders gave them, and fusions trained on tokens alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from consilium.configuration.recipe import Recipe
from consilium.domain.errors import TrainingError
from consilium.domain.findings import Finding, FindingSet
from consilium.modalities.registry import nonempty_subsets, subset_key
from consilium.preprocessing.collate import Preprocessing
from tests.consilium.tiny import FINDINGS
from tests.training.cohorts_made import tiny_cohort, tiny_training_recipe
from training.data.cached_cohort import CachedCohort, cache_cohort
from training.evaluation.predict import predict
from training.experiments.fusion_comparison.fusing import FusedHead, fit_fusion, predict_fusion
from training.experiments.fusion_comparison.small_training import Fitted
from training.experiments.fusion_comparison.tokens import TokenSet, write_tokens
from training.fitting.callbacks import EpochLog
from training.fitting.lightning_module import build_model
from training.fitting.scheduled_module import seeded

RECIPE = tiny_training_recipe(fusion={"name": "late", "width": 16, "depth": 1, "heads": 2})
ROWS = np.arange(3, 23)
ONE = FindingSet((Finding("pneumonia", "Pneumonia"),))


@pytest.fixture(scope="module")
def cached(tmp_path_factory: pytest.TempPathFactory) -> CachedCohort:
    root = tmp_path_factory.mktemp("cohort")
    return cache_cohort(tiny_cohort(root / "in"), RECIPE, root / "cache")


@pytest.fixture(scope="module")
def preprocessing(cached: CachedCohort) -> Preprocessing:
    return Preprocessing.fit(RECIPE, cached.studies)


@pytest.fixture(scope="module")
def tokens(cached: CachedCohort, preprocessing: Preprocessing, tmp_path_factory: pytest.TempPathFactory) -> TokenSet:
    folder = tmp_path_factory.mktemp("tokens") / "train"
    model = build_model(RECIPE, FINDINGS, preprocessing)
    write_tokens(folder, model, preprocessing, cached, ROWS, RECIPE)
    assert [file.name for file in folder.parent.iterdir()] == ["train"]
    return TokenSet(folder)


def test_a_fusion_says_of_kept_tokens_what_the_whole_model_says(
    cached: CachedCohort, preprocessing: Preprocessing, tokens: TokenSet
) -> None:
    """Half precision and the order of the studies included."""
    model = build_model(RECIPE, FINDINGS, preprocessing)
    expected = predict(model, preprocessing, cached, ROWS, RECIPE)
    above = FusedHead(RECIPE, tokens.modalities, FINDINGS).eval()
    above.load_state_dict({k: v for k, v in model.state_dict().items() if k.startswith(("fusion.", "head."))})
    predictions = predict_fusion(above, tokens, 7)
    assert predictions.study_ids.tolist() == expected.study_ids.tolist()
    assert predictions.patient_ids.tolist() == expected.patient_ids.tolist()
    assert list(predictions.present) == list(expected.present) == list(model.modalities)
    assert all(np.array_equal(there, expected.present[name]) for name, there in predictions.present.items())
    np.testing.assert_array_equal(predictions.labels, expected.labels)
    for key, logits in expected.fused.items():
        np.testing.assert_allclose(predictions.fused[key], logits, atol=2e-3)
    assert not all(there.all() for there in predictions.present.values())


def test_a_batch_is_padded_to_its_own_longest_study(tokens: TokenSet) -> None:
    has_text = np.flatnonzero(tokens.present["text"])
    lacks = np.flatnonzero(~tokens.present["text"])
    batch, labels = tokens.batch(np.array([lacks[0], has_text[0]]))
    text = batch["text"]
    assert text.present.tolist() == [False, True]
    assert text.mask[1].all()
    assert not text.values[0].any()
    assert tuple(labels.shape) == (2, 2)
    alone, _ = tokens.batch(lacks[:1])
    assert tuple(alone["text"].mask.shape) == (1, 1)


def test_a_kill_in_the_middle_leaves_no_tokens(
    cached: CachedCohort, preprocessing: Preprocessing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = build_model(RECIPE, FINDINGS, preprocessing)
    folder = tmp_path / "test"
    encode, calls = model.encode, iter([False, True])

    def killed(batch: object) -> object:
        if next(calls):
            raise KeyboardInterrupt
        return encode(batch)

    monkeypatch.setattr(model, "encode", killed)
    with pytest.raises(KeyboardInterrupt):
        write_tokens(folder, model, preprocessing, cached, ROWS, RECIPE)
    assert not folder.exists()
    monkeypatch.undo()
    write_tokens(folder, model, preprocessing, cached, ROWS, RECIPE)
    assert len(TokenSet(folder)) == len(ROWS)


# --- training on tokens that are made up -----------------------------------------------------------------------------


def made_up(folder: Path, studies: int, seed: int, missing: float = 0.0) -> TokenSet:
    """Image and text each show a sign in a token; the finding is there where the two signs agree."""
    rng = np.random.default_rng(seed)
    signs = rng.choice([-1.0, 1.0], (2, studies))
    folder.mkdir(parents=True)
    columns = {}
    for modality, sign in zip(("image", "text"), signs, strict=True):
        there = rng.random(studies) >= missing
        values = rng.normal(size=(studies, 3, 16)) * 0.3
        values[:, 1, 0] += 3 * sign
        values[there].astype(np.float16).tofile(folder / f"{modality}.bin")
        columns[f"counts/{modality}"] = 3 * there.astype(np.int64)
    np.savez(
        folder / "index.npz",
        width=np.array(16),
        study_ids=np.array([f"s{i}" for i in range(studies)]),
        patient_ids=np.array([f"p{i}" for i in range(studies)]),
        labels=(signs[0] == signs[1])[:, None].astype(np.float32),
        **columns,
    )
    return TokenSet(folder)


NONE_HIDDEN = {"image": 0.0, "text": 0.0}


def fusion_recipe(name: str, **training: object) -> Recipe:
    keys = {
        "epochs": 12,
        "batch_size": 32,
        "learning_rate": 0.01,
        "patience": 4,
        "modality_dropout": NONE_HIDDEN,
    } | training
    fusion = {"name": name, "width": 16, "depth": 1, "heads": 2, "dropout": 0.0}
    return tiny_training_recipe(fusion=fusion, training=keys, modalities=["image", "text"])


@pytest.fixture(scope="module")
def agreeing(tmp_path_factory: pytest.TempPathFactory) -> tuple[TokenSet, TokenSet]:
    root = tmp_path_factory.mktemp("agreeing")
    return made_up(root / "train", 192, 0), made_up(root / "validation", 64, 1)


def test_concatenation_learns_what_no_modality_tells_alone(agreeing: tuple[TokenSet, TokenSet], tmp_path: Path) -> None:
    fitted = fit_fusion(fusion_recipe("concat"), ONE, *agreeing, tmp_path)
    predictions = predict_fusion(fitted.model, agreeing[1], 64)
    together = (predictions.fused["image+text"][:, 0] > 0) == (predictions.labels[:, 0] == 1)
    alone = (predictions.fused["image"][:, 0] > 0) == (predictions.labels[:, 0] == 1)
    assert together.mean() > 0.95
    assert alone.mean() < 0.7


def test_late_fusion_cannot_learn_it(agreeing: tuple[TokenSet, TokenSet], tmp_path: Path) -> None:
    fitted = fit_fusion(fusion_recipe("late"), ONE, *agreeing, tmp_path)
    predictions = predict_fusion(fitted.model, agreeing[1], 64)
    assert ((predictions.fused["image+text"][:, 0] > 0) == (predictions.labels[:, 0] == 1)).mean() < 0.8


def weights(fitted: Fitted[FusedHead]) -> torch.Tensor:
    return torch.cat([parameter.flatten() for parameter in fitted.model.parameters()])


def test_the_seed_alone_decides(agreeing: tuple[TokenSet, TokenSet], tmp_path: Path) -> None:
    recipe = fusion_recipe("gated", epochs=1, modality_dropout=NONE_HIDDEN | {"image": 0.5})
    recipe = recipe.model_copy(update={"fusion": recipe.fusion.model_copy(update={"dropout": 0.3})})
    first = fit_fusion(recipe, ONE, *agreeing, tmp_path)
    torch.manual_seed(99)
    assert torch.equal(weights(first), weights(fit_fusion(recipe, ONE, *agreeing, tmp_path)))
    other = fit_fusion(recipe.model_copy(update={"seed": 8}), ONE, *agreeing, tmp_path)
    assert not torch.equal(weights(first), weights(other))


def test_the_weights_are_those_of_the_best_epoch_and_patience_ends_it(
    agreeing: tuple[TokenSet, TokenSet], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """On validation labels turned round, learning makes it worse."""
    train, validation = agreeing
    inverted = made_up_copy(validation)
    inverted.labels = 1 - inverted.labels
    caplog.set_level("INFO", "training")
    fitted = fit_fusion(fusion_recipe("concat", patience=2, epochs=30), ONE, train, inverted, tmp_path)
    messages = [record.getMessage() for record in caplog.records]
    losses = [float(message.rpartition(" ")[2]) for message in messages if message.startswith("epoch")]
    assert len(losses) == fitted.epochs + 2 < 30
    assert fitted.validation_loss == pytest.approx(min(losses), abs=1e-4)
    predictions = predict_fusion(fitted.model, inverted, 64)
    each = []
    for key in map(subset_key, nonempty_subsets(["image", "text"])):
        wrong = np.where(inverted.labels == 1, -predictions.fused[key], predictions.fused[key])
        each.append(np.logaddexp(0, wrong).mean())
    assert fitted.validation_loss == pytest.approx(np.mean(each), abs=1e-5)


def made_up_copy(tokens: TokenSet) -> TokenSet:
    copied = object.__new__(TokenSet)
    copied.__dict__ |= tokens.__dict__
    return copied


@pytest.mark.parametrize("rate", [0.0, 1.0])
def test_modality_dropout_takes_a_modality_from_the_subset_term(
    rate: float, agreeing: tuple[TokenSet, TokenSet], tmp_path: Path
) -> None:
    """A modality that is always dropped teaches nothing where the term of the whole study has no weight."""
    recipe = fusion_recipe("late", epochs=1, modality_dropout=NONE_HIDDEN | {"image": rate})
    recipe = recipe.model_copy(update={"objectives": recipe.objectives.model_copy(update={"fused": 0.0})})
    learned = fit_fusion(recipe, ONE, *agreeing, tmp_path).model.fusion.pools["image"].query
    start = seeded(lambda: FusedHead(recipe, agreeing[0].modalities, ONE), recipe.seed).fusion.pools["image"].query
    assert torch.equal(learned, start) == (rate == 1.0)


def test_validation_without_a_known_label_is_an_error(agreeing: tuple[TokenSet, TokenSet], tmp_path: Path) -> None:
    train, validation = agreeing
    unknown = made_up_copy(validation)
    unknown.labels = np.full_like(validation.labels, np.nan)
    with pytest.raises(TrainingError, match="no study with a known label"):
        fit_fusion(fusion_recipe("concat", epochs=1), ONE, train, unknown, tmp_path)


def test_an_interrupted_training_goes_on_to_the_same_weights(
    agreeing: tuple[TokenSet, TokenSet], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = fusion_recipe("gated", epochs=3, patience=3)
    whole = fit_fusion(recipe, ONE, *agreeing, tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr(EpochLog, "on_train_epoch_end", _interrupted_in_epoch(2))
        with pytest.raises(KeyboardInterrupt):
            fit_fusion(recipe, ONE, *agreeing, tmp_path / "cut")
    resumed = fit_fusion(recipe, ONE, *agreeing, tmp_path / "cut")
    assert torch.equal(weights(whole), weights(resumed))
    assert np.isnan(resumed.seconds)
    assert not any((tmp_path / "cut").iterdir()), "checkpoints go when they are of no more use"


def _interrupted_in_epoch(number: int):
    def interrupt(self: EpochLog, trainer: object, pl_module: object) -> None:
        del self, pl_module
        if trainer.current_epoch + 1 == number:
            raise KeyboardInterrupt

    return interrupt


def test_seconds_and_parameters_are_counted(agreeing: tuple[TokenSet, TokenSet], tmp_path: Path) -> None:
    fitted = fit_fusion(fusion_recipe("late", epochs=1), ONE, *agreeing, tmp_path)
    assert fitted.seconds > 0
    assert fitted.parameters == weights(fitted).numel()
    assert replace(fitted, epochs=3).epochs == 3
