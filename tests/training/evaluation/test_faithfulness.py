"""Twins, curves and the whole measurement, on a small phantom and a model with random weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image as Pillow
from scipy.special import logit

from consilium.calibration import Calibration
from consilium.domain.errors import InputError, TrainingError
from consilium.domain.study import Study
from consilium.explain.case import Case
from consilium.explain.explainer import units_of
from consilium.explain.methods import explanations
from consilium.modalities.observations.explanation import log_odds_of_known
from consilium.modalities.part import Part
from consilium.network.diagnosis_model import DiagnosisModel
from consilium.preprocessing.batch import Prepared
from consilium.preprocessing.collate import Preprocessing
from tests.consilium.tiny import THREE, numbers_of, squares_of, tiny_recipe
from tests.training.cohorts_made import tiny_cohort
from training.cohorts import load_cohort
from training.cohorts.phantom.image.masks import load_masks
from training.cohorts.phantom.oracle import has_modalities, load_oracle, log_likelihoods, posterior
from training.cohorts.phantom.state import FINDINGS, phantom_findings
from training.cohorts.phantom.write import write_phantom
from training.data.cached_cohort import CachedCohort, cache_cohort
from training.data.datamodule import StudyDataset
from training.evaluation.evaluate import calibrate
from training.evaluation.faithfulness import checks, curves, measure, measure_faithfulness, measured_defaults
from training.evaluation.faithfulness.phantom_truth import PhantomTruth, load_truth
from training.evaluation.faithfulness.scores import Scores
from training.evaluation.predict import predict
from training.evaluation.predictions import Predictions
from training.modalities.text.text_truth import TextTruth

STUDIES = 24


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("phantom") / "cohort"
    write_phantom(root, STUDIES, seed=3, size=64, workers=1, splits=None)
    return root


@pytest.fixture(scope="module")
def setting(
    root: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[DiagnosisModel, Preprocessing, Calibration, CachedCohort]:
    recipe = tiny_recipe(cohort={"kind": "phantom"}, image={"encoder": "resnet18", "size": 64, "width": 8})
    cohort = load_cohort("phantom", root)
    cached = cache_cohort(cohort, recipe, tmp_path_factory.mktemp("cache"))
    preprocessing = Preprocessing.fit(recipe, cached.studies)
    torch.manual_seed(0)
    model = DiagnosisModel(recipe, cohort.findings, preprocessing)
    rows = np.arange(STUDIES)
    model.train()(preprocessing.collate([StudyDataset(cached, preprocessing, rows[:8])[k][0] for k in range(8)]))
    predictions = _labelled(predict(model.eval(), preprocessing, cached, rows, recipe))
    calibration = calibrate(predictions, cohort.findings, recipe.calibration, bootstrap=10, seed=0)
    return model, preprocessing, calibration, cached


@pytest.fixture(scope="module")
def table(setting: tuple, root: Path) -> pd.DataFrame:
    return _measured(setting, root)


def _measured(setting: tuple, root: Path | None, studies: int = 6) -> pd.DataFrame:
    truth = None if root is None else load_truth(root)
    return measure_faithfulness(
        *setting, np.arange(STUDIES), phantom_findings(), studies=studies, seed=1, bootstrap=20, truth=truth
    )


def _labelled(predictions: Predictions) -> Predictions:
    """With labels that have both classes of every finding, which calibration needs."""
    labels = np.random.default_rng(0).integers(0, 2, predictions.labels.shape)
    return replace(predictions, labels=labels.astype(float))


def _twins(setting: tuple, root: Path, position: int):
    case = _case(setting, position)
    return case, list(load_truth(root).twins(case))


def _case(setting: tuple, position: int) -> Case:
    model, preprocessing, calibration, cached = setting
    prepared = StudyDataset(cached, preprocessing, np.arange(STUDIES))[position].prepared
    return Case.of(model, preprocessing, calibration, prepared, [], units_of(prepared, preprocessing))


def _passage(truth: PhantomTruth, case: Case, finding: str) -> tuple[int, int, int]:
    notes = truth.parts["text"]
    assert isinstance(notes, TextTruth)
    return notes.passages(case.prepared.study, finding)[0]


def _whole_study(setting: tuple) -> int:
    """A study with every modality."""
    dataset = StudyDataset(setting[3], setting[1], np.arange(STUDIES))
    return int(np.flatnonzero(np.all(list(dataset.present.values()), axis=0))[0])


def test_a_twin_differs_by_one_piece_of_evidence(setting: tuple, root: Path) -> None:
    case, twins = _twins(setting, root, _whole_study(setting))
    prepared, study = case.prepared, case.prepared.study
    assert {twin.part for twin in twins} == {"image", "text", "observations"}
    for twin in twins:
        changed = {
            "image": not np.array_equal(squares_of(twin.prepared), squares_of(prepared)),
            "text": twin.prepared.parts["text"].pieces != prepared.parts["text"].pieces,
            "observations": not np.array_equal(numbers_of(twin.prepared), numbers_of(prepared), equal_nan=True),
        }
        assert [part for part, there in changed.items() if there] == [twin.part]
        if twin.part == "text":
            note, start, end = _passage(load_truth(root), case, twin.finding)
            before, after = study.parts["text"][note].text, twin.prepared.study.parts["text"][note].text
            assert before[:start] == after[:start]
            assert before[end:] == after[len(after) - (len(before) - end) :]
            assert before != after
            words = [word for (word, _), inside in zip(case.units["text"], twin.where, strict=True) if inside]
            assert all(word.note == note and start <= word.start < end for word in words)
        elif twin.part == "observations":
            different = np.flatnonzero(~np.isclose(numbers_of(twin.prepared), numbers_of(prepared), equal_nan=True))
            assert different.tolist() == np.array(case.units["observations"])[twin.where].tolist()
        else:
            apart = np.abs(squares_of(twin.prepared)[0].astype(float) - squares_of(prepared)[0]) / 65535
            assert apart[twin.where].mean() > 3 * apart[~twin.where].mean()
            mask = load_masks(root, study.study_id)[twin.finding]
            # What changed lies where the evidence shows, in the study or in the twin.
            assert (twin.where & mask).any() or not mask.any()


def test_the_oracles_fall_is_that_of_the_stored_evidence_made_neutral(setting: tuple, root: Path) -> None:
    case, twins = _twins(setting, root, _whole_study(setting))
    oracle, truth = load_oracle(root), load_truth(root)
    study = case.prepared.study.study_id
    stored = oracle.evidence.loc[study]
    before = logit(oracle.of([study], THREE)[0])
    for part, channel, neutral in (("image", "pneumothorax", 0.7), ("observations", "crp", 0.575)):
        finding = "pneumothorax" if part == "image" else "pneumonia"
        own = [t for t in twins if (t.part, t.finding) == (part, finding)]
        features = case.preprocessing.preparations["observations"].features
        read = [features[unit].name for unit in case.units["observations"]]
        (twin,) = own if part == "image" else [t for t in own if t.where[read.index(channel)]]
        drawn = truth.drawn(study)
        readings = truth.readings(drawn)
        image, values = readings["image"].copy(), readings["observations"].written.copy()
        assert image[0] == pytest.approx([stored[f"image:{name}"] for name in FINDINGS])
        if part == "image":
            image[0, FINDINGS.index(channel)] = neutral
        else:
            assert values[0, 0] == pytest.approx(stored["observations:crp"], abs=0.05)  # as written, rounded
            values[0, 0] = neutral
        changed = {"image": image, "observations": replace(readings["observations"], written=values)}
        likelihoods = log_likelihoods(
            truth.states, truth.model, {**readings, **changed}, has_modalities(truth.model, [drawn])
        )
        after = posterior(truth.states.prior, likelihoods, truth.model.modalities, THREE)[0]
        expected = (before - logit(after))[FINDINGS.index(finding)]
        assert twin.oracle == pytest.approx(expected, abs=1e-6)


def test_twins_of_another_rendering_are_refused(setting: tuple, root: Path) -> None:
    truth = load_truth(root)
    foreign = replace(truth, design=replace(truth.design, seed=4))
    case = _case(setting, _whole_study(setting))
    with pytest.raises(TrainingError, match="write the cohort anew"):
        list(foreign.twins(case))


def test_a_method_that_knows_the_fall_gets_it_back(setting: tuple, root: Path) -> None:
    model, preprocessing, calibration, cached = setting
    case, twins = _twins(setting, root, _whole_study(setting))
    bench = measure._bench(
        model, preprocessing, calibration, phantom_findings(), cached, np.arange(3), 0, load_truth(root)
    )
    falls = []
    views = {(part, "m"): [] for part in ("image", "text", "observations")}
    for part, shape in (("image", case.prepared.study.parts["image"][0].shape), ("text", len(case.units["text"]))):
        views[part, "m"] = [np.zeros(shape, np.float32) for _ in FINDINGS]
    views["observations", "m"] = [np.zeros(len(case.units["observations"])) for _ in FINDINGS]
    for twin in twins:
        with torch.no_grad():
            alone = case.log_odds(model(preprocessing.collate([twin.prepared])).fused)[0]
        position = FINDINGS.index(twin.finding)
        falls.append(float(case.log_odds(case.fused)[0, position] - alone[position]))
        views[twin.part, "m"][position][twin.where] = falls[-1] / twin.where.sum()
    measure._twins(bench, case, views, twins)
    noted = [
        (a, m) for twins in bench.scores.twins.values() for a, m in zip(twins.attributed, twins.model, strict=True)
    ]
    assert len(noted) == len(twins)
    assert np.array(noted)[:, 0] == pytest.approx(np.array(noted)[:, 1], abs=1e-4)
    assert sorted(model for _, model in noted) == pytest.approx(sorted(falls), abs=1e-4)


def test_curves_take_out_the_highest_and_bring_them_in(setting: tuple) -> None:
    model, preprocessing, calibration, cached = setting
    prepared = StudyDataset(cached, preprocessing, np.arange(STUDIES))[_whole_study(setting)].prepared
    case = Case.of(model, preprocessing, calibration, prepared, units=units_of(prepared, preprocessing))
    declared = explanations(THREE)
    weights = np.arange(len(case.units["observations"]), 0.0, -1)
    deletion, insertion = curves.deletion_and_insertion(case, declared["observations"], weights, 2)
    whole = np.ones((1, len(numbers_of(prepared))), bool) & np.isfinite(numbers_of(prepared))
    fell, rose = [], []
    for share in curves.SHARES:
        count = max(1, round(share * len(case.units["observations"])))
        without, only = whole.copy(), np.zeros_like(whole)
        without[0, list(case.units["observations"][:count])] = False
        only[0, list(case.units["observations"][:count])] = True
        both = torch.from_numpy(np.concatenate([whole, without, np.zeros_like(whole), only]))
        answer = log_odds_of_known(case, both)[:, 2]
        fell.append(answer[0] - answer[1])
        rose.append(answer[3] - answer[2])
    assert (deletion, insertion) == pytest.approx((np.mean(fell), np.mean(rose)), abs=1e-6)
    everywhere = np.ones((case.batch.inputs["image"]["images"].shape[1], 16, 16), np.float32)
    assert all(np.isfinite(curves.deletion_and_insertion(case, declared["image"], everywhere, 0)))
    assert all(np.isfinite(curves.deletion_and_insertion(case, declared["text"], np.ones(len(case.units["text"])), 0)))


def test_every_method_is_measured_in_every_way(table: pd.DataFrame) -> None:
    everywhere = {"twin_correlation", "twin_sign", "deletion", "insertion", "sanity", "stability"}
    for part, own in {
        "image": {"mass_in_mask", "pointing", "mass_gain"},
        "text": {"auprc"},
        "observations": {"auprc"},
    }.items():
        lines = table[table["part"] == part]
        for method in set(lines["method"]) - {"random", "mask_area", "centre_prior", "mean_mask"}:
            assert everywhere | own <= set(lines[lines["method"] == method]["metric"]), (part, method)
    modalities = table[table["part"] == "modalities"]
    assert set(modalities["method"]) == {"shapley", "leave_one_out"}
    bounded = table[table["metric"].isin(["twin_sign", "mass_in_mask", "pointing", "auprc"])]
    bounded = bounded[bounded["finding"] != "macro"]
    # A sign is a share of the twins that moved the model, and without one there is none.
    assert (bounded["value"].between(0, 1) | (bounded["n"] == 0)).all()
    assert set(measured_defaults(table)) == {"fast", "thorough"}


def test_the_same_arguments_give_the_same_table(setting: tuple, root: Path, table: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(table, _measured(setting, root))


def test_without_truth_the_rest_is_measured(setting: tuple, root: Path) -> None:
    ticks = []
    table = measure_faithfulness(
        *setting,
        np.arange(STUDIES),
        phantom_findings(),
        studies=8,
        seed=1,
        bootstrap=5,
        advance=lambda: ticks.append(1),
    )
    assert set(table["metric"]) == {"deletion", "insertion", "sanity", "stability"}
    assert len(ticks) == 8
    with pytest.raises(InputError, match="must be a phantom cohort"):
        load_truth(root.parent)


def test_the_untrained_model_is_another_and_noise_is_small(setting: tuple) -> None:
    model, preprocessing, _, cached = setting
    state = torch.random.get_rng_state()
    fresh = checks.untrained(model, preprocessing, phantom_findings(), 5)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert not torch.equal(fresh.head.weight, model.head.weight)
    before = model.encoders["text"].model.get_input_embeddings().weight
    noisy = checks.with_noisy_weights(model, 5).encoders["text"].model.get_input_embeddings().weight
    assert 0.02 * before.std() < (noisy - before).std() < 0.1 * before.std()
    prepared = StudyDataset(cached, preprocessing, np.arange(STUDIES))[_whole_study(setting)].prepared
    disturbed = checks.with_noise(prepared, (1, 2))
    apart = squares_of(disturbed).astype(float) - squares_of(prepared)
    assert 0.004 < apart.std() / 65535 < 0.011
    assert np.isnan(numbers_of(disturbed)).tolist() == np.isnan(numbers_of(prepared)).tolist()


def test_nothing_that_is_not_finite_enters_the_ledger() -> None:
    scores = Scores()
    scores.add(measure.Subject("image", "m", "f"), "auprc", "p", float("nan"))
    assert not scores.figures


def test_a_cohort_of_files_is_measured_too(tmp_path: Path) -> None:
    recipe = tiny_recipe(image={"encoder": "resnet18", "size": 64, "width": 8})
    cohort = tiny_cohort(tmp_path / "cohort", 30)
    assert Pillow.open(cohort.records[0].files["image"][0].path).size == (128, 96)
    cached = cache_cohort(cohort, recipe, tmp_path / "cache")
    preprocessing = Preprocessing.fit(recipe, cached.studies)
    torch.manual_seed(0)
    model = DiagnosisModel(recipe, cohort.findings, preprocessing).eval()
    predictions = _labelled(predict(model, preprocessing, cached, np.arange(30), recipe))
    calibration = calibrate(predictions, cohort.findings, recipe.calibration, bootstrap=10, seed=0)
    table = measure_faithfulness(
        model, preprocessing, calibration, cached, np.arange(30), cohort.findings, studies=4, seed=0, bootstrap=5
    )
    assert set(table["part"]) == {"image", "text", "observations"}


def test_the_numbers_of_any_other_modality_get_noise_in_proportion_to_their_spread() -> None:
    part = Part(arrays={"levels": np.linspace(0, 10, 400, dtype=np.float32)[:, None], "places": np.arange(400)})
    prepared = Prepared(Study(), {"signal": part}, ())
    noisy = checks.with_noise(prepared, (3, 1)).parts["signal"].arrays
    apart = noisy["levels"] - part.arrays["levels"]
    assert apart.std() == pytest.approx(0.05 * part.arrays["levels"].std(), rel=0.15)
    assert noisy["levels"].dtype == np.float32
    np.testing.assert_array_equal(noisy["places"], part.arrays["places"])
