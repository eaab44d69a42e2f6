from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from consilium.artifact import save_artifact
from consilium.diagnosis import ModelIdentity
from consilium.diagnostician import Diagnostician, choose_device
from consilium.errors import InputError, ModelFailure
from consilium.ingest.records import study_from_records
from consilium.study import Modality, Study, nonempty_subsets, subset_key
from tests.consilium.tiny import ALL, FINDINGS, tiny_study
from tests.consilium.tiny_artifact import tiny_artifact

IDENTITY = ModelIdentity("tiny", "1", "0" * 64)


@pytest.fixture(scope="module")
def diagnostician() -> Diagnostician:
    return Diagnostician(tiny_artifact(), IDENTITY)


@pytest.mark.parametrize("subset", nonempty_subsets(ALL), ids=subset_key)
def test_a_diagnosis_says_what_it_had(diagnostician: Diagnostician, subset: frozenset[Modality]) -> None:
    (diagnosis,) = diagnostician.diagnose([tiny_study(1, subset)])
    assert set(diagnosis.modalities) == subset
    for result in diagnosis.findings:
        assert set(result.opinions) == subset
        assert 0 < result.probability < 1
        assert result.call == (result.probability >= result.operating_point.threshold)


def test_probabilities_are_the_calibration_of_the_logits(diagnostician: Diagnostician) -> None:
    study = tiny_study(2)
    (diagnosis,) = diagnostician.diagnose([study])
    with torch.no_grad():
        logits = diagnostician.model(diagnostician.preprocessing.collate([diagnostician.prepare(study)]))
    expected = diagnostician.calibration.probabilities(logits.fused.numpy(), subset_key(ALL))[0]
    assert [r.probability for r in diagnosis.findings] == pytest.approx(list(expected), abs=1e-7)


def test_mixed_studies_in_one_batch_are_answered_as_alone(diagnostician: Diagnostician) -> None:
    studies = [tiny_study(n, subset) for n, subset in enumerate(nonempty_subsets(ALL))]
    together = diagnostician.diagnose(studies)
    for study, diagnosis in zip(studies, together, strict=True):
        (alone,) = diagnostician.diagnose([study])
        assert diagnosis.to_json()["modalities"] == alone.to_json()["modalities"]
        assert [r.probability for r in diagnosis.findings] == pytest.approx(
            [r.probability for r in alone.findings], abs=1e-5
        )
    assert diagnostician.diagnose([]) == []


def test_explaining_answers_with_the_probability_of_diagnosing(diagnostician: Diagnostician) -> None:
    study = tiny_study(3)
    (diagnosis,) = diagnostician.diagnose([study])
    explanation = diagnostician.explain(study, ["effusion"])
    assert [f.finding.name for f in explanation.findings] == ["effusion"]
    assert explanation.diagnosis["effusion"].probability == pytest.approx(diagnosis["effusion"].probability, abs=1e-7)
    log_odds = explanation.findings[0].log_odds
    assert 1 / (1 + np.exp(-log_odds)) == pytest.approx(diagnosis["effusion"].probability, abs=1e-6)


def test_digests_are_of_everything_that_was_sent(diagnostician: Diagnostician) -> None:
    study = tiny_study(4)
    (diagnosis,) = diagnostician.diagnose([study])
    assert diagnosis.input_digests == study.input_digests()
    assert diagnosis.model == IDENTITY


def test_a_study_with_nothing_to_read_is_refused(diagnostician: Diagnostician) -> None:
    with pytest.raises(InputError, match="nothing that this model reads"):
        diagnostician.diagnose([Study()])


def test_a_study_with_nothing_left_to_read_is_told_what_was_left_out(diagnostician: Diagnostician) -> None:
    late = [{"code": "1988-5", "value": 9, "unit": "mg/L", "time": "2024-05-03T10:00:00"}]
    study = study_from_records(observations=late, reference_time="2024-05-01T10:00:00")
    with pytest.raises(InputError, match=r"must have image or text or observations; observation .* left out: recorded"):
        diagnostician.diagnose([study])


def test_a_saved_folder_answers_as_the_model_that_was_saved(diagnostician: Diagnostician, tmp_path: Path) -> None:
    digest = save_artifact(tmp_path / "model", tiny_artifact())
    loaded = Diagnostician.load(tmp_path / "model", device="cpu")
    assert loaded.identity.manifest_digest == digest
    studies = [tiny_study(n) for n in range(3)]
    for first, second in zip(diagnostician.diagnose(studies), loaded.diagnose(studies), strict=True):
        for name in FINDINGS.names:
            assert first[name].probability == second[name].probability


def test_an_answer_that_is_no_number_is_not_passed_on() -> None:
    artifact = tiny_artifact()
    with torch.no_grad():
        artifact.model.head.bias[0] = torch.nan
    with pytest.raises(ModelFailure):
        Diagnostician(artifact, IDENTITY).diagnose([tiny_study(1)])


@pytest.mark.parametrize("name", ["gpu", "cuda:99", "meta!"])
def test_a_device_that_is_not_there_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="device"):
        choose_device(name)
