"""Grades and times beside the findings, from a cohort on disk to an answer, on tiny phantoms."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from consilium.artifacts.artifact import load_artifact
from consilium.configuration.recipe import Recipe
from consilium.domain.errors import TrainingError
from consilium.inference.diagnostician import Diagnostician
from tests.training.cohorts_made import Sink
from training.cohorts import load_cohort
from training.cohorts.phantom.outcomes import phantom_targets
from training.cohorts.phantom.write import write_phantom
from training.data.cached_cohort import cache_cohort
from training.evaluation.rows import ALL_PRESENT, AS_PRESENT, Row, RowKind
from training.figures.evaluation_terminal import terminal_tables
from training.fitting.fit import fit
from training.inspection.inspect import check_cohort
from training.pipeline.evaluate_registered import evaluate_model
from training.pipeline.train import TrainedModel, train
from training.recipes import find_recipe

MADE = {"size": 64, "workers": 1, "modalities": ("text", "observations")}
SMALL = ("training.epochs=1", "evaluation.bootstrap=20", "evaluation.audit=false", "refer.out_of_distribution=null")


@pytest.fixture(scope="module")
def cohorts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("phantoms")
    for name in ("plain", "graded"):
        write_phantom(root / name, 260, 3, outcomes=name == "graded", **MADE)
    return {name: root / name for name in ("plain", "graded")}


@pytest.fixture(scope="module", autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CONSILIUM_HOME", str(tmp_path_factory.mktemp("home")))
        yield


def _recipe(name: str, *settings: str) -> Recipe:
    found = find_recipe("phantom-tiny", [f"name={name}", *SMALL, *settings])
    return found.model_copy(update={"modalities": {m: found.modalities[m] for m in ("text", "observations")}})


@pytest.fixture(scope="module")
def trained(cohorts: dict[str, Path]) -> TrainedModel:
    return train(_recipe("graded"), cohorts["graded"], progress=False)


def test_an_answer_holds_a_chance_for_every_grade_and_horizon(trained: TrainedModel) -> None:
    diagnostician = Diagnostician.load(trained.folder)
    (diagnosis,) = diagnostician.diagnose([diagnostician.example()])
    severity, death = phantom_targets()
    (grade,), (survival,) = diagnosis.grades, diagnosis.survival
    assert [one.grade for one in grade.probabilities] == list(severity.to_json()["grades"])
    chances = np.array([one.probability for one in grade.probabilities])
    assert chances.sum() == pytest.approx(1)
    assert grade.expected == pytest.approx(chances @ np.arange(4))
    assert chances[: [one.grade for one in grade.probabilities].index(grade.grade) + 1].sum() >= 0.5
    assert [one.time for one in survival.without_event] == death.to_json()["horizons"]
    without = [one.probability for one in survival.without_event]
    assert without == sorted(without, reverse=True)
    assert type(diagnosis).model_validate(diagnosis.to_json()).to_json() == diagnosis.to_json()
    explained = diagnostician.explain(diagnostician.example(), ["pneumonia"])
    assert explained.diagnosis.grades[0].expected == pytest.approx(grade.expected, abs=1e-5)


def test_the_evaluation_has_them_beside_the_best_possible(trained: TrainedModel) -> None:
    evaluation = trained.evaluation
    best = Row(RowKind.ORACLE, ALL_PRESENT)
    for target in phantom_targets():
        own, possible = (
            evaluation.value("targets", "concordance", row=row, target=target.name) for row in (AS_PRESENT, best)
        )
        assert 0 <= own <= 1
        assert possible > 0.6
        assert len(evaluation.tables["target_steps"].query(f"target == '{target.name}'")["step"].unique()) == 3
    assert any("Targets beside the findings" in str(table.title) for table in terminal_tables(evaluation))
    artifact = load_artifact(trained.folder)
    assert "Grades and times beside the findings" in artifact.card["card.md"]
    assert "Beside them: Severity, Death" in artifact.card["card.md"]


def test_evaluated_again_it_gives_the_same(trained: TrainedModel, cohorts: dict[str, Path]) -> None:
    again = evaluate_model(str(trained.folder), cohorts["graded"]).tables["targets"]
    assert again.equals(trained.evaluation.tables["targets"])
    bare = evaluate_model(str(trained.folder), cohorts["plain"]).tables
    assert "targets" not in bare


def test_a_model_of_findings_alone_is_the_same_with_and_without_targets(
    cohorts: dict[str, Path], tmp_path: Path
) -> None:
    recipe, models = _recipe("bare", "objectives.targets=0"), []
    for name, root in cohorts.items():
        cached = cache_cohort(load_cohort("phantom", root), recipe, tmp_path / "files")
        models.append(fit(cached, recipe, np.arange(120), None, tmp_path / name, Sink()).model)
    plain, graded = (model.state_dict() for model in models)
    assert plain.keys() == graded.keys()
    assert all(torch.equal(plain[name], graded[name]) for name in plain)


def test_the_closed_form_refuses_targets_before_anything_is_trained(cohorts: dict[str, Path]) -> None:
    recipe = _recipe("stacked", "fusion.name=stacked")
    with pytest.raises(TrainingError, match=r"targets severity, death.*objectives\.targets to 0"):
        train(recipe, cohorts["graded"], progress=False)


def test_a_check_counts_what_is_known(cohorts: dict[str, Path]) -> None:
    report = check_cohort(load_cohort("phantom", cohorts["graded"]), audited=False)
    counted = report.tables["targets"].frame
    assert counted.groupby("target")["studies"].sum().to_dict() == {"death": 260, "severity": 260}
    assert "targets" not in check_cohort(load_cohort("phantom", cohorts["plain"]), audited=False).tables
