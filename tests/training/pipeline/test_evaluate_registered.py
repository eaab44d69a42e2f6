from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from consilium.configuration.recipe import CohortRecipe
from consilium.domain.errors import InputError, TrainingError
from training.cohorts.phantom.write import write_phantom
from training.evaluation.rows import AS_PRESENT
from training.experiments.shifts import measure_shifts
from training.figures.evaluation_terminal import terminal_tables
from training.pipeline.compare_models import compare_models
from training.pipeline.evaluate_registered import evaluate_model
from training.pipeline.train import TrainedModel, train
from training.recipes import find_recipe


@pytest.fixture(scope="module", autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CONSILIUM_HOME", str(tmp_path_factory.mktemp("home")))
        yield


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("phantoms") / "phantom"
    write_phantom(root, 160, seed=3, size=128, workers=1)
    return root


def trained(phantom: Path, name: str, *settings: str) -> TrainedModel:
    small = [f"name={name}", "training.epochs=1", "evaluation.bootstrap=20", *settings]
    return train(find_recipe("phantom-tiny", small), phantom, progress=False)


@pytest.fixture(scope="module")
def model(phantom: Path) -> TrainedModel:
    return trained(phantom, "tiny-evaluated")


def test_on_its_own_cohort_it_is_the_evaluation_of_the_training(model: TrainedModel, phantom: Path):
    again = evaluate_model(model.uri, phantom)
    assert again.study_ids.tolist() == model.evaluation.study_ids.tolist()
    assert again.metrics == pytest.approx(model.evaluation.metrics, abs=1e-6)
    for name in ("selective", "aurc", "subgroups"):
        pd.testing.assert_frame_equal(again.tables[name], model.evaluation.tables[name], atol=1e-6)


def test_of_a_cohort_with_splits_the_test_split_is_evaluated(model: TrainedModel, tmp_path: Path):
    write_phantom(tmp_path / "other", 100, seed=9, size=128, workers=1)
    evaluated = evaluate_model(str(model.folder), tmp_path / "other", bootstrap=10)
    table = pd.read_csv(tmp_path / "other" / "studies.csv", dtype=str)
    assert sorted(evaluated.study_ids) == sorted(table["study"][table["split"] == "test"])


def test_another_cohort_without_splits_is_evaluated_whole(model: TrainedModel, tmp_path: Path):
    write_phantom(tmp_path / "other", 40, seed=9, size=128, workers=1, splits=None)
    other = evaluate_model(str(model.folder), tmp_path / "other", bootstrap=10)
    assert len(other.study_ids) == 40
    assert "oracle_shares" in other.tables
    without_truth = evaluate_model(model.uri, _without_truth(tmp_path / "other"), cohort=CohortRecipe(kind="manifest"))
    assert "oracle_shares" not in without_truth.tables
    both = [e.probabilities[AS_PRESENT] for e in (other, without_truth)]
    assert np.allclose(*both)


def test_under_a_shift_it_is_evaluated_against_that_cohorts_own_best_answer(model: TrainedModel):
    shifts = {"none": (), "prevalence": ("prevalence:pneumonia=20", "prevalence:pneumothorax=20")}
    seen: list[str] = []
    arguments = {"studies": 120, "size": 64, "seed": 21, "shifts": shifts, "bootstrap": 10}
    table = measure_shifts(str(model.folder), **arguments, progress=seen.append).set_index("shift")
    assert table.index.tolist() == seen == ["none", "prevalence"]
    assert table["n"].tolist() == [120, 120]
    # The model goes by the prevalence at home, so that its probabilities no longer fit.
    assert table.loc["prevalence", "ece"] > table.loc["none", "ece"] + 0.1
    assert (table["auroc_share_low"] <= table["auroc_share"]).all()
    again = measure_shifts(str(model.folder), **arguments).set_index("shift")
    assert again.equals(table)


def test_two_models_are_compared_on_what_neither_has_learned_from(model: TrainedModel, phantom: Path):
    table = compare_models(model.uri, str(model.folder), phantom, margin=0.05, bootstrap=20, seed=1)
    assert (table["n"] == len(model.evaluation.study_ids)).all()
    assert (table["auroc_difference"] == 0).all()
    assert set(table["verdict"]) == {"not inferior"}


def test_a_cross_validated_model_answers_for_its_own_cohort_out_of_fold(phantom: Path):
    folded = trained(phantom, "tiny-compared", "evaluation.protocol=cross_validation", "evaluation.folds=2")
    table = compare_models(folded.uri, folded.uri, phantom, margin=0.05, bootstrap=20, seed=1)
    assert table["n"].max() == 160
    auroc = folded.evaluation.value("metrics", "auroc", row=AS_PRESENT, finding="macro")
    assert table.set_index("finding").loc["macro", "auroc"] == pytest.approx(auroc)


def _without_truth(root: Path) -> Path:
    for file in (root / "truth").rglob("*.csv"):
        file.unlink()
    return root


def test_a_model_is_evaluated_with_a_given_prevalence_and_without(model: TrainedModel, phantom: Path):
    given = {"pleural_effusion": 0.9}
    adjusted, unadjusted = (evaluate_model(model.uri, phantom, bootstrap=10, prevalence=p) for p in (given, None))
    effusion = adjusted.findings.index("pleural_effusion")
    first, second = (one.probabilities[AS_PRESENT] for one in (adjusted, unadjusted))
    assert (first[:, effusion] > second[:, effusion]).all()
    assert np.allclose(np.delete(first, effusion, axis=1), np.delete(second, effusion, axis=1))
    where = {"row": AS_PRESENT, "finding": "pleural_effusion"}
    for column, evaluation in (("nll", unadjusted), ("nll_adjusted", adjusted)):
        value = adjusted.value("prevalence", column, finding="pleural_effusion")
        assert value == pytest.approx(evaluation.value("metrics", "nll", **where))
    assert "prevalence" not in unadjusted.tables
    shown = [[str(table.title) for table in terminal_tables(one)] for one in (adjusted, unadjusted)]
    assert [title for title in shown[0] if title not in shown[1]] == [
        "Adjusted to the given prevalence, and as calibrated (as present)"
    ]


def test_other_findings_are_refused(model: TrainedModel, tmp_path: Path):
    (tmp_path / "studies.csv").write_text("study,patient,note_history,label:gout\ns1,p1,a swollen toe,1\n")
    with pytest.raises(InputError, match="gout"):
        evaluate_model(model.uri, tmp_path, cohort=CohortRecipe(kind="manifest"))


def test_a_model_of_all_studies_cannot_be_evaluated_on_them(phantom: Path):
    model = trained(phantom, "tiny-all", "evaluation.protocol=cross_validation", "evaluation.folds=2")
    with pytest.raises(TrainingError, match=model.run_id):
        evaluate_model(model.uri, phantom)
