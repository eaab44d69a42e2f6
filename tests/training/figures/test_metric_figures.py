from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from consilium.configuration.recipe import CalibrationRecipe
from consilium.domain.findings import Finding, FindingSet
from tests.training.simulated import FINDINGS, simulate
from training.evaluation.evaluate import calibrate, evaluate
from training.evaluation.results import Evaluation
from training.evaluation.rows import AS_PRESENT, fused
from training.figures.metric_figures import reliability_figure, roc_figure, subset_reliability_figure


@pytest.fixture(scope="module")
def evaluation() -> Evaluation:
    predictions, oracle = simulate(300, 21)
    calibration = calibrate(simulate(300, 22)[0], FINDINGS, CalibrationRecipe(), bootstrap=20, seed=1)
    coin = np.random.default_rng(1).random(predictions.labels.shape)
    return evaluate(predictions, calibration, FINDINGS, oracle=oracle, baselines={"coin": coin}, bootstrap=20, seed=1)


def test_roc_panels_show_every_witness_and_the_operating_point(evaluation: Evaluation) -> None:
    panels = [axes for axes in roc_figure(evaluation).axes if axes.get_visible()]
    assert len(panels) == 2
    labels = panels[1].get_legend_handles_labels()[1]
    assert [label.rpartition("  ")[0] for label in labels] == [
        "coin",
        "image alone",
        "text alone",
        "observations alone",
        "best possible",
        "fused",
    ]
    auroc = evaluation.value("metrics", "auroc", row=AS_PRESENT, finding="effusion")
    assert labels[-1] == f"fused  {auroc:.3f}".replace("0.", ".")
    fused = next(line for line in panels[1].lines if line.get_label() == labels[-1])
    assert np.trapezoid(fused.get_ydata(), fused.get_xdata()) == pytest.approx(auroc)
    dot = next(line for line in panels[1].lines if line.get_marker() == "o")
    sensitivity = evaluation.value("metrics", "sensitivity", row=AS_PRESENT, finding="effusion")
    assert dot.get_ydata()[0] == sensitivity


def test_reliability_panels_show_the_table(evaluation: Evaluation) -> None:
    panel = reliability_figure(evaluation).axes[0]
    bins = evaluation.tables["reliability"].query("finding == 'pneumonia' and row == @AS_PRESENT")
    drawn = next(line for line in panel.lines if line.get_marker() == "o")
    assert np.array_equal(drawn.get_xdata(), bins["predicted"])
    assert np.array_equal(drawn.get_ydata(), bins["observed"])
    assert "Pneumonia" in panel.get_title(loc="left")


def test_reliability_by_subset_has_a_panel_each_and_a_line_per_finding(evaluation: Evaluation) -> None:
    panels = [axes for axes in subset_reliability_figure(evaluation).axes if axes.get_visible()]
    assert [panel.get_title(loc="left") for panel in panels] == [
        "image",
        "text",
        "observations",
        "image + text",
        "image + observations",
        "text + observations",
        "image + text + observations",
    ]
    labels = panels[4].get_legend_handles_labels()[1]
    both = fused("image+observations")
    ece = evaluation.value("metrics", "ece", row=both, finding="effusion")
    assert labels[1] == f"Pleural effusion  {ece:.3f}".replace("0.", ".")
    bins = evaluation.tables["reliability"].query("finding == 'effusion' and row == @both")
    drawn = next(line for line in panels[4].lines if line.get_label() == labels[1])
    assert np.array_equal(drawn.get_xdata(), bins["predicted"])
    assert np.array_equal(drawn.get_ydata(), bins["observed"])


@pytest.mark.parametrize("draw", [roc_figure, reliability_figure, subset_reliability_figure])
def test_figures_become_pictures(evaluation: Evaluation, draw) -> None:
    buffer = io.BytesIO()
    draw(evaluation).savefig(buffer, dpi=60)
    picture = np.asarray(Image.open(buffer).convert("RGB"))
    assert picture.shape[1] > picture.shape[0] > 200
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 50


def test_a_finding_without_negatives_leaves_its_panel_empty() -> None:
    predictions, _ = simulate(120, 23)
    calibration = calibrate(predictions, FINDINGS, CalibrationRecipe(), bootstrap=10, seed=1)
    predictions.labels[:, 1] = 1
    evaluation = evaluate(predictions, calibration, FINDINGS, bootstrap=10, seed=1)
    panels = roc_figure(evaluation).axes
    assert panels[1].get_legend() is None
    assert panels[0].get_legend() is not None
    assert len(subset_reliability_figure(evaluation).axes[0].get_legend_handles_labels()[1]) == 2
    assert evaluation.value("metrics", "auroc", row=AS_PRESENT, finding="macro") == evaluation.value(
        "metrics", "auroc", row=AS_PRESENT, finding="pneumonia"
    )


def test_six_classes_fill_two_rows() -> None:
    findings = FindingSet(tuple(Finding(name, name.title()) for name in "abcdef"), exclusive=True)
    predictions, _ = simulate(240, 24, missing=0)
    rng = np.random.default_rng(0)
    truth = np.eye(6)[np.arange(240) % 6]
    wide = {subset: 2 * truth + rng.normal(size=truth.shape) for subset in predictions.fused}
    six = type(predictions)(predictions.study_ids, predictions.patient_ids, truth, predictions.present, wide, {})
    calibration = calibrate(six, findings, CalibrationRecipe(), bootstrap=10, seed=1)
    evaluation = evaluate(six, calibration, findings, bootstrap=10, seed=1)
    assert np.allclose(evaluation.probabilities[AS_PRESENT].sum(axis=1), 1)
    shown = [axes.get_visible() for axes in roc_figure(evaluation).axes]
    assert shown == [True] * 6 + [False] * 2
    colours = [line.get_color() for line in subset_reliability_figure(evaluation).axes[0].lines]
    assert len(set(colours)) == 7  # six classes and the diagonal
