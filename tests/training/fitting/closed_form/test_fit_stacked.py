"""The closed form as an ordinary model: its answers, its evidence, and its way through a file."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_model, save_model

from consilium.domain.errors import TrainingError
from consilium.modalities.registry import subset_key
from consilium.network.diagnosis_model import DiagnosisModel
from tests.training.cohorts_made import tiny_cohort, tiny_training_recipe
from training.data.cached_cohort import CachedCohort, cache_cohort
from training.data.datamodule import StudyDataset, study_loader
from training.evaluation.predict import predict, predict_training
from training.fitting.closed_form import fit_stacked as module
from training.fitting.closed_form.fit_stacked import fit_stacked
from training.fitting.fit import Fit, fit
from training.fitting.fusion_choice import fit_model, with_fusion

RECIPE = tiny_training_recipe(fusion={"name": "stacked", "width": 16})
ROWS = np.arange(40)


@pytest.fixture(scope="module")
def cached(tmp_path_factory: pytest.TempPathFactory) -> CachedCohort:
    root = tmp_path_factory.mktemp("cohort")
    return cache_cohort(tiny_cohort(root / "in"), RECIPE, root / "cache")


@pytest.fixture(scope="module")
def found(cached):
    """The fit, with what the closed form made of which features."""
    kept = {}
    with pytest.MonkeyPatch.context() as patch:
        original = module.fit_closed_form

        def watched(features, labels, patient_ids, *arguments, **options):
            kept["features"], kept["patients"] = features, patient_ids
            kept["linear"] = original(features, labels, patient_ids, *arguments, **options)
            return kept["linear"]

        patch.setattr(module, "fit_closed_form", watched)
        kept["fit"] = fit_stacked(cached, RECIPE, ROWS)
    return kept


@pytest.fixture(scope="module")
def fitted(found) -> Fit:
    return found["fit"]


def batch_of(cached, fitted: Fit):
    dataset = StudyDataset(cached, fitted.preprocessing, ROWS)
    return next(iter(study_loader(dataset, fitted.preprocessing, RECIPE, batch_size=len(dataset))))


def test_model_answers_as_the_linear_fit_from_what_each_study_has(cached, found):
    fitted = found["fit"]
    predictions = predict(fitted.model, fitted.preprocessing, cached, ROWS, RECIPE)
    expected = found["linear"](found["features"])
    assert predictions.as_present(predictions.fused) == pytest.approx(expected, abs=1e-4)


def test_every_subset_is_answered_by_the_evidence_of_its_members(cached, found):
    fitted, linear = found["fit"], found["linear"]
    predictions = predict(fitted.model, fitted.preprocessing, cached, ROWS, RECIPE)
    assert len(predictions.fused) == 7
    for key, logits in predictions.fused.items():
        there = ~np.isnan(logits).any(axis=1)
        evidence = {name: linear.evidence(name, found["features"][name]) for name in key.split("+")}
        assert logits[there] == pytest.approx(linear.stack(evidence)[there], abs=1e-4)


def test_own_heads_are_the_heads_that_are_stacked(cached, found):
    fitted = found["fit"]
    predictions = predict(fitted.model, fitted.preprocessing, cached, ROWS, RECIPE)
    for name, logits in predictions.unimodal.items():
        there = predictions.present[name]
        assert logits[there] == pytest.approx(found["linear"].heads[name](found["features"][name])[there], abs=1e-4)


def test_patients_are_those_of_the_studies(cached, found):
    dataset = StudyDataset(cached, found["fit"].preprocessing, ROWS)
    assert found["patients"].tolist() == [cached.cohort.records[row].patient_id for row in dataset.rows]


def test_nothing_of_the_encoders_was_trained(cached, fitted):
    torch.manual_seed(0)
    again = fit_stacked(cached, RECIPE, ROWS).model.state_dict()
    assert all(torch.equal(tensor, again[name]) for name, tensor in fitted.model.state_dict().items())
    assert not any(parameter.requires_grad for parameter in fitted.model.encoders.parameters())


def test_contributions_of_cells_words_and_values_add_up_to_the_logit(cached, fitted):
    """What each entry adds beyond a blank entry, and what the blank ones give, is the logit: the model is linear."""
    batch = batch_of(cached, fitted)
    with torch.enable_grad():
        tokens, trace = fitted.model.trace(batch)
        value, slope = trace.entries["observations"], None
        (slope,) = torch.autograd.grad(trace.fused[:, 0].sum(), value, retain_graph=True)
    mask = batch.inputs["observations"]["mask"]
    added = (value.detach() * slope).sum(dim=-1).masked_fill(~mask, 0.0).sum(dim=1)
    with torch.no_grad():
        blank = fitted.model.encoders["observations"](batch.inputs["observations"], torch.zeros_like(value))
        without = fitted.model.fuse(tokens | {"observations": fitted.model.read("observations", blank)})
    assert added + without[:, 0] == pytest.approx(trace.fused[:, 0].detach(), abs=1e-4)


def test_contributions_of_words_add_up(cached, fitted):
    batch, encoder = batch_of(cached, fitted), fitted.model.encoders["text"]
    with torch.enable_grad():
        tokens, trace = fitted.model.trace(batch)
        words = trace.entries["text"]
        (slope,) = torch.autograd.grad(trace.fused[:, 0].sum(), words, retain_graph=True)
    with torch.no_grad():
        blank = encoder.from_embeddings(batch.inputs["text"], torch.zeros_like(words))
        without = fitted.model.fuse(tokens | {"text": fitted.model.read("text", blank)})
    each = (words.detach() * slope).sum(dim=-1)
    assert each.masked_fill(~batch.inputs["text"]["mask"], 0.0).sum(dim=1) + without[:, 0] == pytest.approx(
        trace.fused[:, 0].detach(), abs=1e-4
    )


def test_contributions_of_cells_add_up(cached, fitted):
    """The cells of the last map; a coarse grid of their means is what the linear model reads."""
    batch, encoder = batch_of(cached, fitted), fitted.model.encoders["image"]
    inputs = batch.inputs["image"]
    with torch.no_grad():
        maps = encoder.backbone(*encoder.dense_inputs(inputs))
        others = fitted.model.encode(batch)

    def logits(cells):
        seen = encoder.tokens(encoder.connector.reduce(cells.flatten(2).transpose(1, 2)), inputs)
        return fitted.model.fuse(others | {"image": fitted.model.read("image", seen)})[:, 0]

    maps.requires_grad_()
    with torch.enable_grad():
        (slope,) = torch.autograd.grad(logits(maps).sum(), maps)
    there = inputs["mask"].any(dim=1)
    assert inputs["mask"].sum(dim=1).max() == 1, "one image a study, so that maps and studies go together"
    with torch.no_grad():
        added = (maps * slope).sum(dim=(1, 2, 3))
        assert added + logits(torch.zeros_like(maps))[there] == pytest.approx(logits(maps)[there], abs=1e-4)


def test_saved_and_loaded_it_answers_alike(cached, fitted, tmp_path: Path):
    save_model(fitted.model, str(tmp_path / "weights.safetensors"))
    torch.manual_seed(99)
    other = DiagnosisModel(RECIPE, cached.cohort.findings, fitted.preprocessing, pretrained=False)
    load_model(other, tmp_path / "weights.safetensors", strict=True)
    batch = batch_of(cached, fitted)
    with torch.inference_mode():
        assert torch.equal(other.eval()(batch).fused, fitted.model(batch).fused)


def test_a_detector_learns_from_its_features(cached, fitted):
    seen, detector = predict_training(fitted.model, fitted.preprocessing, cached, ROWS, RECIPE)
    assert detector is not None
    assert np.isfinite(seen.features["fused"]).all()


def test_more_components_than_studies_are_zero(cached, fitted):
    components = fitted.model.whitening["observations"].components
    kept = fitted.model.encoders["observations"].width
    assert components.shape == (16, kept)
    assert components[min(16, kept) :].abs().sum() == 0


def test_validation_studies_are_learned_from_too(cached, tmp_path: Path, monkeypatch):
    rows = []
    monkeypatch.setattr("training.fitting.fusion_choice.fit_stacked", lambda cached, recipe, train: rows.append(train))
    fit_model(cached, RECIPE, ROWS[:30], ROWS[30:], tmp_path, lambda name: None)
    assert rows[0].tolist() == ROWS.tolist()


@pytest.mark.parametrize("name", ["stacked", "auto"])
def test_gradient_descent_is_refused(cached, tmp_path: Path, name: str):
    with pytest.raises(TrainingError, match=f"fusion {name} is not trained by gradient descent"):
        fit(cached, with_fusion(RECIPE, name), ROWS, None, tmp_path, None)


def test_subsets_of_a_study_without_anything_else_are_named(cached, fitted):
    predictions = predict(fitted.model, fitted.preprocessing, cached, ROWS, RECIPE)
    assert subset_key(["image", "text", "observations"]) in predictions.fused
