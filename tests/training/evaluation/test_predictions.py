from __future__ import annotations

import numpy as np
import pytest

from consilium.domain.errors import TrainingError
from consilium.modalities.registry import modality_names
from tests.training.simulated import simulate
from training.evaluation.predictions import Predictions


def same(first: Predictions, second: Predictions) -> bool:
    pairs = [(getattr(first, name), getattr(second, name)) for name in ("study_ids", "patient_ids", "present")]
    assert all(np.array_equal(a, b) for a, b in pairs)
    assert first.fused.keys() == second.fused.keys()
    assert first.opinions.keys() == second.opinions.keys()
    logits = [(first.fused[k], second.fused[k]) for k in first.fused]
    logits += [(first.opinions[k], second.opinions[k]) for k in first.opinions] + [(first.labels, second.labels)]
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
    assert list(again.opinions) == list(modality_names())


def test_as_present_takes_what_each_study_has() -> None:
    whole, _ = simulate(200, 3, missing=0.5)
    chosen = whole.as_present(whole.fused)
    for row, (present, subset) in enumerate(zip(whole.present, whole.subsets, strict=True)):
        has = [name for name, there in zip(modality_names(), present, strict=True) if there]
        assert subset == ("+".join(has) or "none")
        if has:
            assert np.array_equal(chosen[row], whole.fused["+".join(has)][row])
        else:
            assert np.isnan(chosen[row]).all()
    assert (~whole.present.any(axis=1)).any()


def test_inconsistent_predictions_are_refused() -> None:
    whole, _ = simulate(6, 4)
    parts = {
        name: getattr(whole, name) for name in ("study_ids", "patient_ids", "labels", "present", "fused", "opinions")
    }
    with pytest.raises(TrainingError, match="present must be \\[6, 3\\]"):
        Predictions(**(parts | {"present": whole.present[:, :2]}))
    with pytest.raises(TrainingError, match="image must be \\[6, 2\\], got \\[6, 1\\]"):
        Predictions(**(parts | {"fused": whole.fused | {"image": whole.fused["image"][:, :1]}}))
    with pytest.raises(TrainingError, match="twice"):
        Predictions.concatenate([whole, whole.select(np.array([2]))])
    narrower = Predictions(**(parts | {"opinions": {}}))
    with pytest.raises(TrainingError, match="different modalities"):
        Predictions.concatenate([whole, narrower])
    with pytest.raises(TrainingError, match="nothing"):
        Predictions.concatenate([])
