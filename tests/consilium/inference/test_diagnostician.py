from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from consilium.artifacts.artifact import save_artifact
from consilium.domain.diagnosis import AuditVerdict, ModelIdentity
from consilium.domain.errors import InputError, ModelFailure, WrongAnswers
from consilium.domain.study import Study
from consilium.explain import LEVELS
from consilium.inference.diagnostician import Diagnostician, choose_device
from consilium.inference.self_test import Backend, Tolerance
from consilium.ingest.study_records import study_from_records
from consilium.modalities.converter import condensed
from consilium.modalities.registry import nonempty_subsets, subset_key
from consilium.network.diagnosis_model import FUSED, Logits
from consilium.preprocessing.batch import Batch
from tests.consilium.tiny import ALL, FINDINGS, tiny_recipe, tiny_study
from tests.consilium.tiny_artifact import tiny_artifact

IDENTITY = ModelIdentity("tiny", "1", "0" * 64)


@pytest.fixture(scope="module")
def diagnostician() -> Diagnostician:
    return Diagnostician(tiny_artifact(), IDENTITY)


@pytest.mark.parametrize("subset", nonempty_subsets(ALL), ids=subset_key)
def test_a_diagnosis_says_what_it_had(diagnostician: Diagnostician, subset: frozenset[str]) -> None:
    (diagnosis,) = diagnostician.diagnose([tiny_study(1, subset)])
    assert set(diagnosis.modalities) == subset
    for result in diagnosis.findings:
        assert set(result.unimodal_probabilities) == subset
        assert 0 < result.probability < 1
        assert result.call == (result.probability >= result.operating_point.threshold)


@pytest.mark.parametrize("subset", nonempty_subsets(ALL), ids=subset_key)
def test_an_answer_knows_its_projections_and_does_not_send_them(
    diagnostician: Diagnostician, subset: frozenset[str]
) -> None:
    study = tiny_study(1, subset)
    (diagnosis, other) = diagnostician.diagnose([study, tiny_study(2)])
    assert set(diagnosis.projections) == {*subset, FUSED}
    with torch.no_grad():
        logits = diagnostician.model(diagnostician.preprocessing.collate([diagnostician.prepare(study)]))
    assert diagnostician.monitoring is not None
    expected = diagnostician.monitoring.project({part: one.numpy() for part, one in logits.features.items()})
    for part, figures in diagnosis.projections.items():
        assert figures == pytest.approx(expected[part][0].tolist(), abs=1e-3)
    assert diagnosis.projections[FUSED] != other.projections[FUSED]
    assert "projections" not in diagnosis.model_dump_json()
    assert diagnostician.explain(study).diagnosis.projections.keys() == diagnosis.projections.keys()


def test_without_a_reference_there_are_no_projections() -> None:
    (diagnosis,) = Diagnostician(replace(tiny_artifact(), monitoring=None), IDENTITY).diagnose([tiny_study(1)])
    assert diagnosis.projections == {}


def test_probabilities_are_the_calibration_of_the_logits(diagnostician: Diagnostician) -> None:
    study = tiny_study(2)
    (diagnosis,) = diagnostician.diagnose([study])
    with torch.no_grad():
        logits = diagnostician.model(diagnostician.preprocessing.collate([diagnostician.prepare(study)]))
    expected = diagnostician.calibration.probabilities(logits.fused.numpy(), subset_key(ALL))[0]
    assert [r.probability for r in diagnosis.findings] == pytest.approx(list(expected), abs=1e-7)


def test_a_condensed_study_is_answered_and_explained_as_the_whole_one(diagnostician: Diagnostician) -> None:
    study = tiny_study(2)
    converters = list(diagnostician.converters.values())
    light = study.with_parts(image=[condensed(image, converters) for image in study.parts["image"]])
    assert all(image.pixels.size == 0 for image in light.parts["image"])
    assert diagnostician.diagnose([light]) == diagnostician.diagnose([study])
    for level in LEVELS:
        one, other = (diagnostician.explain(each, level=level) for each in (light, study))
        assert one.diagnosis == other.diagnosis
        for explained, expected in zip(one.findings, other.findings, strict=True):
            (saliency,), (known,) = explained.parts["image"], expected.parts["image"]
            assert saliency.values.shape == study.parts["image"][0].shape
            np.testing.assert_array_equal(saliency.values, known.values)
            assert explained.parts["text"] == expected.parts["text"]


def test_intervals_and_sets_are_the_calibrations(diagnostician: Diagnostician) -> None:
    for number in range(8):
        study = tiny_study(number)
        (diagnosis,) = diagnostician.diagnose([study])
        with torch.no_grad():
            batch = diagnostician.preprocessing.collate([diagnostician.prepare(study)])
            logits = diagnostician.model(batch).fused.double().numpy()
        key, calibration = subset_key(ALL), diagnostician.calibration
        for position, result in enumerate(diagnosis.findings):
            assert result.interval == pytest.approx(calibration.intervals(logits, key)[0, position], abs=1e-9)
            absent, present = calibration.prediction_sets(logits, key)[0, position]
            assert result.prediction_set == (("absent",) if absent else ()) + (("present",) if present else ())
            assert result.interval[0] <= result.probability <= result.interval[1]


def test_a_foreign_image_is_out_of_distribution_and_referred(diagnostician: Diagnostician) -> None:
    study = tiny_study(5)
    blank = replace(study.parts["image"][0], pixels=np.full((96, 128), 7, np.uint16))
    rate = diagnostician.recipe.refer.out_of_distribution
    assert rate is not None
    usual, unusual = diagnostician.diagnose([study, study.with_parts(image=(blank,))])
    assert [part.part for part in usual.out_of_distribution] == ["image", "text", "observations", "fused"]
    scores = {part.part: part.score for part in usual.out_of_distribution}
    for part in unusual.out_of_distribution:
        assert part.out_of_distribution == (part.p_value < rate)
        if part.part in ("text", "observations"):
            assert part.score == pytest.approx(scores[part.part], rel=1e-4)
    assert unusual.out_of_distribution[0].p_value == pytest.approx(1 / 31), "farther than all of 30 calibration studies"
    assert unusual.out_of_distribution[0].p_value < usual.out_of_distribution[0].p_value
    assert "The image is blank." in unusual.refer_reasons
    assert "The image is blank." not in usual.refer_reasons


def test_an_absent_modality_has_no_out_of_distribution_score(diagnostician: Diagnostician) -> None:
    with_note, alone = diagnostician.diagnose([tiny_study(6), tiny_study(7, frozenset({"text"}))])
    assert len(with_note.out_of_distribution) == 4
    assert [part.part for part in alone.out_of_distribution] == ["text", "fused"]


def test_the_recipe_and_the_audit_decide_what_is_referred() -> None:
    artifact = tiny_artifact(refer={"both": False, "required": ["image"], "audit": True})
    suspect = replace(artifact, audit=AuditVerdict("suspect", ("The marker tells.",)))
    (diagnosis,) = Diagnostician(suspect, IDENTITY).diagnose([tiny_study(1, frozenset({"text"}))])
    assert diagnosis.audit == suspect.audit
    assert diagnosis.refer_reasons == (
        "There is no image, which this model requires.",
        "The audit calls the cohort that this model was trained on suspect.",
    )


def test_without_a_detector_there_are_no_out_of_distribution_scores() -> None:
    artifact = replace(tiny_artifact(), recipe=tiny_recipe(refer={"out_of_distribution": None}), detector=None)
    (diagnosis,) = Diagnostician(artifact, IDENTITY).diagnose([tiny_study(1)])
    assert diagnosis.out_of_distribution == ()


def test_an_explanation_has_the_diagnosis_and_the_nearest_cases(diagnostician: Diagnostician) -> None:
    study = tiny_study(3)
    (diagnosis,) = diagnostician.diagnose([study])
    explanation = diagnostician.explain(study, [])
    answer = explanation.diagnosis
    assert answer.refer_reasons == diagnosis.refer_reasons
    assert [part.part for part in answer.out_of_distribution] == [part.part for part in diagnosis.out_of_distribution]
    for first, second in zip(answer.out_of_distribution, diagnosis.out_of_distribution, strict=True):
        assert first.score == pytest.approx(second.score, rel=1e-4)
    assert len(explanation.neighbours) == 5
    assert explanation.neighbours[0].similarity == pytest.approx(1, abs=1e-3), "this study was among them"
    assert explanation.neighbours[0].labels == {"pneumonia": True, "effusion": None}
    bare = Diagnostician(replace(tiny_artifact(), neighbours=None), IDENTITY)
    assert bare.explain(study, []).neighbours == ()


@pytest.mark.parametrize("count", [1, 7])
def test_similar_cases_are_those_of_an_explanation_beside_the_same_diagnosis(
    diagnostician: Diagnostician, count: int
) -> None:
    study = tiny_study(3)
    (diagnosis,) = diagnostician.diagnose([study])
    found = diagnostician.similar_prepared(diagnostician.prepare(study), count)
    assert (found.diagnosis.to_json(), found.findings) == (diagnosis.to_json(), ())
    assert len(found.neighbours) == count
    explained = diagnostician.explain(study, []).neighbours
    assert [case.pseudonym for case in found.neighbours[:5]] == [case.pseudonym for case in explained[:count]]
    assert found.neighbours[0].similarity == pytest.approx(explained[0].similarity, abs=1e-5)


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
    assert [f.finding for f in explanation.findings] == ["effusion"]
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


def test_a_study_with_nothing_left_to_read_is_refused_with_what_was_left_out(diagnostician: Diagnostician) -> None:
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


def served_by(backend: Backend) -> Diagnostician:
    return Diagnostician(tiny_artifact(), IDENTITY, backend=backend, threads=1)


@pytest.mark.parametrize("backend", Backend)
def test_an_explanation_shows_the_probability_that_its_backend_diagnoses(backend: Backend) -> None:
    diagnostician, plain = served_by(backend), served_by(Backend.EAGER)
    study = tiny_study(3)
    (diagnosed,) = diagnostician.diagnose([study])
    explanation = diagnostician.explain(study)
    similar = diagnostician.similar_prepared(diagnostician.prepare(study))
    wanted = [result.probability for result in diagnosed.findings]
    # The explained pass of the plain model rounds in another order than its diagnosis.
    most = 1e-6 if backend is Backend.EAGER else 1e-9
    for answer in (explanation.diagnosis, similar.diagnosis):
        assert [result.probability for result in answer.findings] == pytest.approx(wanted, abs=most)
        assert [part.score for part in answer.out_of_distribution] == pytest.approx(
            [n.score for n in diagnosed.out_of_distribution], rel=1e-4
        )
    bare = [result.probability for result in plain.diagnose([study])[0].findings]
    assert (bare == pytest.approx(wanted, abs=1e-9)) == (backend is Backend.EAGER), "another arithmetic answers"
    assert bare == pytest.approx(wanted, abs=0.02)
    for mine, theirs in zip(explanation.findings, plain.explain(study).findings, strict=True):
        assert mine.log_odds == pytest.approx(theirs.log_odds, abs=1e-5), "explained is the plain model"


@pytest.mark.parametrize("backend", Backend)
def test_a_backend_is_accepted_by_the_reference_studies(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    diagnostician = served_by(backend)
    assert diagnostician.acceptance is None
    accepted = diagnostician.accept(Tolerance(), batch_size=4)
    assert diagnostician.acceptance is accepted
    assert (accepted.backend, accepted.studies) == (backend, len(diagnostician.references.studies))
    assert (accepted.largest_deviation == 0) == (backend is Backend.EAGER)

    def confused(batch: Batch) -> Logits:
        numbers = torch.full_like(batch.inputs["observations"]["numbers"], 5.0)
        return diagnostician.model(batch.with_inputs("observations", numbers=numbers))

    monkeypatch.setattr(diagnostician, "network", confused)
    with pytest.raises(WrongAnswers, match=f"backend {backend}: reference study"):
        diagnostician.accept(Tolerance())


def test_a_model_that_answers_otherwise_than_when_it_was_trained_is_no_such_model() -> None:
    diagnostician = served_by(Backend.EAGER)
    diagnostician.accept(Tolerance())
    with torch.no_grad():
        diagnostician.model.head.bias += 0.05
    with pytest.raises(WrongAnswers, match=r"reference study .* when the model was trained"):
        diagnostician.accept(Tolerance())
    assert diagnostician.accept(Tolerance(reference=0.1)).largest_deviation == 0


def test_a_backend_that_is_none_is_refused() -> None:
    with pytest.raises(InputError, match="must be auto, eager"):
        Diagnostician(tiny_artifact(), IDENTITY, backend="fast")
