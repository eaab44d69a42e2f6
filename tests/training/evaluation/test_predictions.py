from __future__ import annotations

import numpy as np
import pytest

from consilium.domain.errors import TrainingError
from tests.consilium.more_modalities import install
from tests.consilium.tiny import THREE
from tests.training.simulated import simulate
from training.evaluation.predictions import Predictions


def same(first: Predictions, second: Predictions) -> bool:
    pairs = [(getattr(first, name), getattr(second, name)) for name in ("study_ids", "patient_ids")]
    pairs += [(there, second.present[name]) for name, there in first.present.items()]
    assert all(np.array_equal(a, b) for a, b in pairs)
    assert list(first.present) == list(second.present)
    assert first.fused.keys() == second.fused.keys()
    assert first.unimodal.keys() == second.unimodal.keys()
    logits = [(first.fused[k], second.fused[k]) for k in first.fused]
    logits += [(first.unimodal[k], second.unimodal[k]) for k in first.unimodal] + [(first.labels, second.labels)]
    return all(np.array_equal(a, b, equal_nan=True) for a, b in logits)


def test_select_and_concatenate_are_inverse() -> None:
    whole, _ = simulate(30, 1)
    parts = [whole.select(np.arange(12)), whole.select(np.arange(30) >= 12)]
    assert [len(part) for part in parts] == [12, 18]
    assert same(Predictions.concatenate(parts), whole)


def test_saved_predictions_come_back_to_the_bit(tmp_path) -> None:
    whole, _ = simulate(20, 2)
    whole.save(tmp_path / "fold.npz")
    again = Predictions.load(tmp_path / "fold.npz")
    assert same(again, whole)
    assert list(again.unimodal) == list(THREE)


def test_as_present_takes_what_each_study_has() -> None:
    whole, _ = simulate(200, 3, missing=0.5)
    chosen = whole.as_present(whole.fused)
    for row, subset in enumerate(whole.subsets):
        has = [name for name in THREE if whole.present[name][row]]
        assert subset == ("+".join(has) or "none")
        if has:
            assert np.array_equal(chosen[row], whole.fused["+".join(has)][row])
        else:
            assert np.isnan(chosen[row]).all()
    assert "none" in whole.subsets


def test_inconsistent_predictions_are_refused() -> None:
    whole, _ = simulate(6, 4)
    parts = {
        name: getattr(whole, name) for name in ("study_ids", "patient_ids", "labels", "present", "fused", "unimodal")
    }
    with pytest.raises(TrainingError, match="present of text must be \\[6\\], got \\[2\\]"):
        Predictions(**(parts | {"present": whole.present | {"text": whole.present["text"][:2]}}))
    with pytest.raises(TrainingError, match="no column says which studies have text"):
        Predictions(**(parts | {"present": {name: whole.present[name] for name in ("image", "observations")}}))
    with pytest.raises(TrainingError, match="image must be \\[6, 2\\], got \\[6, 1\\]"):
        Predictions(**(parts | {"fused": whole.fused | {"image": whole.fused["image"][:, :1]}}))
    with pytest.raises(TrainingError, match="twice"):
        Predictions.concatenate([whole, whole.select(np.array([2]))])
    narrower = Predictions(**(parts | {"unimodal": {}}))
    with pytest.raises(TrainingError, match="different modalities"):
        Predictions.concatenate([whole, narrower])
    with pytest.raises(TrainingError, match="nothing"):
        Predictions.concatenate([])


@pytest.mark.parametrize("first", [False, True])
def test_predictions_of_three_modalities_load_where_a_fourth_is_installed(
    tmp_path, monkeypatch: pytest.MonkeyPatch, first: bool
) -> None:
    whole, _ = simulate(60, 5, missing=0.5)
    subsets = whole.subsets.tolist()
    whole.save(tmp_path / "fold.npz")
    install(monkeypatch, "signal", first=first)
    again = Predictions.load(tmp_path / "fold.npz")
    assert same(again, whole)
    assert again.subsets.tolist() == subsets
    assert same(Predictions.concatenate([again.select(np.arange(9)), again.select(np.arange(9, 60))]), whole)


def test_a_modality_may_be_called_like_a_column(tmp_path) -> None:
    whole, _ = simulate(20, 6)
    for name in ("labels", "patient_ids"):
        renamed = Predictions(
            whole.study_ids,
            whole.patient_ids,
            whole.labels,
            {name: whole.present["text"]},
            {name: whole.fused["text"]},
            {},
        )
        renamed.save(tmp_path / "fold.npz")
        assert same(Predictions.load(tmp_path / "fold.npz"), renamed)
