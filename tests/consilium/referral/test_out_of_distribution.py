from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from sklearn.covariance import LedoitWolf

from consilium.domain.errors import TrainingError
from consilium.network.diagnosis_model import FUSED
from consilium.referral.out_of_distribution import Gaussian, Inputs, OutOfDistributionDetector

PARTS = ("image", "text", "observations", FUSED)
VOCABULARY = 20
PREPARATIONS = {"text": SimpleNamespace(tokenizer=range(VOCABULARY)), "observations": None}


def _inputs(studies: int, seed: int) -> Inputs:
    """Correlated features; notes that count upwards; extremes about 1; a tenth of the studies without an image."""
    rng = np.random.default_rng(seed)
    mix = np.random.default_rng(0).normal(size=(6, 6))
    features = {part: torch.from_numpy(rng.normal(size=(studies, 6)) @ mix).float() for part in PARTS}
    features["image"][rng.random(studies) < 0.1] = torch.nan
    starts = rng.integers(0, VOCABULARY, (studies, 1))
    pieces = torch.from_numpy((starts + np.arange(8)) % VOCABULARY)
    extreme = torch.from_numpy(rng.normal(1, 0.2, studies)).float()
    return Inputs(features, {"text": pieces, "observations": extreme})


def _patients(studies: int) -> np.ndarray:
    return np.array([f"p{n}" for n in range(studies)])


@pytest.fixture(scope="module")
def detector() -> OutOfDistributionDetector:
    fitted = OutOfDistributionDetector.fit(_inputs(400, 1), _patients(400), PREPARATIONS, seed=3)
    return fitted.calibrated(_scores(fitted, _inputs(300, 2)))


def _scores(detector: OutOfDistributionDetector, inputs: Inputs) -> dict[str, np.ndarray]:
    return {part: values.numpy().astype(np.float64) for part, values in detector.score(inputs).items()}


@pytest.mark.parametrize(("studies", "width"), [(300, 8), (12, 30)])
def test_the_distance_is_that_of_ledoit_and_wolfs_covariance(studies: int, width: int) -> None:
    rng = np.random.default_rng(4)
    features = rng.normal(size=(studies, width)) @ rng.normal(size=(width, width)) + 5
    reference = LedoitWolf().fit(features)
    asked = rng.normal(size=(20, width)) * 4
    distance = Gaussian.fit(torch.from_numpy(features).float()).distance(torch.from_numpy(asked).float())
    assert distance.numpy() == pytest.approx(np.sqrt(reference.mahalanobis(asked)), rel=1e-3)


def test_features_that_do_not_vary_have_a_finite_distance() -> None:
    constant = Gaussian.fit(torch.full((20, 3), 2.0))
    distance = constant.distance(torch.tensor([[2.0, 2.0, 2.0], [2.1, 2.0, 2.0]]))
    assert distance[0] == 0
    assert 1 < distance[1] < np.inf


def test_p_values_are_ranks_among_calibration_scores(detector: OutOfDistributionDetector) -> None:
    small = detector.calibrated({"image": np.array([1.0, 3.0, np.nan, 2.0])})
    found = small.p_values({"image": [0.0, 2.0, 2.5, 9.0, np.nan], "text": [99.0]})
    assert found["image"].tolist()[:4] == [1.0, 3 / 4, 2 / 4, 1 / 4]
    assert np.isnan(found["image"][4])
    assert found["text"].tolist() == [1.0], "where nothing was calibrated, nothing is unusual"


def test_the_false_positive_rate_is_the_one_asked_for(detector: OutOfDistributionDetector) -> None:
    found = detector.p_values(_scores(detector, _inputs(3000, 6)))
    for part in PARTS:
        p_values = found[part][~np.isnan(found[part])]
        # The calibration split is a sample too: four of its own standard errors.
        assert np.mean(p_values <= 0.1) == pytest.approx(0.1, abs=4 * math.sqrt(0.09 / 300))
    assert np.isnan(found["image"]).mean() == pytest.approx(0.1, abs=0.03)


def _moved(inputs: Inputs) -> Inputs:
    return Inputs({part: values + 8 for part, values in inputs.features.items()}, inputs.evidence)


def _shuffled(inputs: Inputs) -> Inputs:
    rng = np.random.default_rng(0)
    shuffled = torch.from_numpy(rng.permuted(inputs.evidence["text"].numpy(), axis=1))
    return Inputs(inputs.features, inputs.evidence | {"text": shuffled})


def _absurd(inputs: Inputs) -> Inputs:
    absurd = torch.full_like(inputs.evidence["observations"], 6)
    return Inputs(inputs.features, inputs.evidence | {"observations": absurd})


@pytest.mark.parametrize(("change", "noticed"), [(_moved, PARTS), (_shuffled, ("text",)), (_absurd, ("observations",))])
def test_each_change_shows_in_its_own_part(
    detector: OutOfDistributionDetector, change, noticed: tuple[str, ...]
) -> None:
    ordinary = _inputs(100, 7)
    before, after = (detector.p_values(_scores(detector, one)) for one in (ordinary, change(ordinary)))
    for part in PARTS:
        known = ~np.isnan(before[part])
        if part in noticed:
            assert (after[part][known] < 0.01).mean() > 0.95
        else:
            assert np.array_equal(before[part], after[part], equal_nan=True)


def test_a_diagnosis_has_a_score_for_every_part_that_is_there(detector: OutOfDistributionDetector) -> None:
    unusual, ordinary, *_ = (100.0, 0.0)
    scores = detector.results({"image": float("nan"), "text": unusual, FUSED: ordinary}, rate=0.01)
    assert [part.part for part in scores] == ["text", FUSED]
    assert [part.out_of_distribution for part in scores] == [True, False]
    assert scores[0].p_value == pytest.approx(1 / 301)
    assert scores[0].score == unusual
    (rare,) = detector.results({"text": unusual}, rate=1 / 302)
    assert not rare.out_of_distribution, "a p-value that cannot be reached calls nothing out of distribution"


def test_a_study_is_scored_alike_alone_and_in_a_batch(detector: OutOfDistributionDetector) -> None:
    together = detector.score(_inputs(20, 8))
    for row in range(20):
        alone = detector.score(_inputs(20, 8).select(torch.tensor([row])))
        for part in PARTS:
            assert alone[part][0].item() == pytest.approx(together[part][row].item(), rel=1e-4, nan_ok=True)


def test_batches_of_different_length_can_be_put_together() -> None:
    whole = _inputs(10, 9)
    first = whole.select(torch.arange(4))
    short = Inputs(first.features, first.evidence | {"text": first.evidence["text"][:, :5]})
    joined = Inputs.concatenate([short, whole.select(torch.arange(4, 10))])
    assert joined.evidence["text"].shape == (10, 8)
    assert joined.evidence["text"][0].tolist() == [*whole.evidence["text"][0, :5].tolist(), -1, -1, -1]
    assert torch.equal(joined.features["text"], whole.features["text"])


def test_too_few_studies_of_a_part_are_refused() -> None:
    inputs = _inputs(60, 10)
    inputs.features["image"][5:] = torch.nan
    with pytest.raises(TrainingError, match="5 training studies have image"):
        OutOfDistributionDetector.fit(inputs, _patients(60), PREPARATIONS, seed=0)


def test_the_same_seed_gives_the_same_detector_and_the_file_gives_it_back(
    detector: OutOfDistributionDetector, tmp_path: Path
) -> None:
    detector.save(tmp_path / "first.safetensors")
    again = OutOfDistributionDetector.fit(_inputs(400, 1), _patients(400), PREPARATIONS, seed=3)
    again.calibrated(_scores(again, _inputs(300, 2))).save(tmp_path / "second.safetensors")
    assert (tmp_path / "first.safetensors").read_bytes() == (tmp_path / "second.safetensors").read_bytes()
    loaded = OutOfDistributionDetector.load(tmp_path / "first.safetensors")
    assert list(loaded.gaussians) == list(PARTS)
    for part, values in detector.score(_inputs(30, 11)).items():
        assert torch.equal(values[~values.isnan()], loaded.score(_inputs(30, 11))[part][~values.isnan()])
        assert torch.equal(loaded.ordinary[part], detector.ordinary[part])


def test_a_part_without_a_statistic_of_its_own_is_scored_by_its_distance_alone(tmp_path: Path) -> None:
    inputs = Inputs({FUSED: _inputs(60, 12).features[FUSED]}, {})
    detector = OutOfDistributionDetector.fit(inputs, _patients(60), {}, seed=0)
    detector.save(tmp_path / "out_of_distribution.safetensors")
    assert OutOfDistributionDetector.load(tmp_path / "out_of_distribution.safetensors").learned == {}
    assert list(detector.score(inputs)) == [FUSED]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda t: t.pop("mean/text"),
        lambda t: t["scale/text"].fill_(torch.inf),
        lambda t: t.pop("own/text/pairs"),
    ],
    ids=["a mean is missing", "a scale is infinite", "a table is missing"],
)
def test_a_spoilt_file_is_refused(detector: OutOfDistributionDetector, tmp_path: Path, spoil) -> None:
    detector.save(tmp_path / "out_of_distribution.safetensors")
    tensors = load_file(tmp_path / "out_of_distribution.safetensors")
    spoil(tensors)
    save_file(tensors, tmp_path / "spoilt.safetensors")
    with pytest.raises(ValueError, match="every"):
        OutOfDistributionDetector.load(tmp_path / "spoilt.safetensors")
