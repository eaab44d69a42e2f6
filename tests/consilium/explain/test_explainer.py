"""Explanations of a model whose answer is known by construction."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from consilium.artifacts.artifact import Artifact
from consilium.domain.errors import InputError
from consilium.domain.study import Study
from consilium.explain import case as cases_of_explanation
from consilium.explain import explain
from consilium.modalities.registry import nonempty_subsets, subset_key
from consilium.modalities.text.note import Note, NoteKind
from consilium.network.diagnosis_model import DiagnosisModel
from consilium.preprocessing.collate import Preprocessing
from tests.consilium.explain.cases import case_of
from tests.consilium.tiny import ALL, FINDINGS, NOON, tiny_recipe, tiny_study
from tests.consilium.tiny_artifact import tiny_artifact


@pytest.fixture(scope="module")
def artifact() -> Artifact:
    return tiny_artifact()


def _explain(artifact: Artifact, study: Study, level: str = "fast", names: tuple[str, ...] = FINDINGS.names, **methods):
    prepared = artifact.preprocessing.prepare(study)
    return explain(
        artifact.model.eval(), artifact.preprocessing, artifact.calibration, prepared, FINDINGS, names, level, methods
    )


@pytest.mark.parametrize("subset", nonempty_subsets(ALL), ids=subset_key)
def test_modalities_add_up_to_the_answer_whatever_is_absent(artifact: Artifact, subset: frozenset[str]) -> None:
    explained, logits = _explain(artifact, tiny_study(3, subset))
    log_odds = artifact.calibration.log_odds(logits.fused.numpy(), subset_key(subset))[0]
    for position, finding in enumerate(explained):
        assert set(finding.modalities) == subset
        assert finding.log_odds == pytest.approx(log_odds[position], abs=1e-6)
        assert finding.prior_log_odds + sum(finding.modalities.values()) == pytest.approx(finding.log_odds, abs=1e-6)
        assert {modality for modality, attributions in finding.parts.items() if attributions} == subset
        assert len(finding.parts.get("image", ())) == int("image" in subset)


def test_saliency_is_the_gradient_in_log_odds(artifact: Artifact) -> None:
    study = tiny_study(4, frozenset({"image"}))
    (finding, _), _ = _explain(artifact, study)
    saliency = finding.parts.get("image", ())[0]
    assert saliency.values.shape == study.parts["image"][0].shape
    assert saliency.cells == (32, 32)
    prepared = artifact.preprocessing.prepare(study)
    _, trace = artifact.model.trace(artifact.preprocessing.collate([prepared]))
    gradient = torch.autograd.grad(trace.fused[0, 0], trace.entries["image"])[0]
    apart = trace.entries["image"] - artifact.model.encoders["image"].typical_map()
    cells = (gradient * apart).sum(1)[0].detach().numpy()
    step = np.array([[1e-3, 0]])
    ahead, behind = (
        artifact.calibration.log_odds(trace.fused.detach().numpy() + sign * step, "image")[0, 0] for sign in (1, -1)
    )
    expected = prepared.parts["image"].letterboxes[0].backward(cells) * (ahead - behind) / 2e-3
    assert saliency.values == pytest.approx(expected, abs=1e-4)
    assert np.abs(expected).max() > 1e-2


def test_words_and_values_left_out_one_by_one(artifact: Artifact) -> None:
    study = tiny_study(5)
    (finding, *_), _ = _explain(artifact, study, text="leave_one_out", observations="leave_one_out")
    assert finding.methods["text"] == "leave_one_out"
    note = study.parts["text"][0]
    assert [note.text[w.start : w.end] for w in finding.parts.get("text", ())] == note.text.split()
    preprocessing, model = artifact.preprocessing, artifact.model
    batch = preprocessing.collate([preprocessing.prepare(study)])
    crp = next(i for i, f in enumerate(preprocessing.preparations["observations"].features) if f.name == "crp")
    batch.inputs["observations"]["mask"][0, crp] = False
    with torch.no_grad():
        without = model(batch).fused.numpy()
    expected = finding.log_odds - artifact.calibration.log_odds(without, subset_key(ALL))[0, 0]
    (weight,) = [o.weight for o in finding.parts.get("observations", ()) if o.variable == "crp"]
    assert weight == pytest.approx(expected, abs=1e-5)


def test_a_decisive_word_is_found(artifact: Artifact) -> None:
    """A text encoder whose answer hangs on one word's embedding."""
    recipe = tiny_recipe(modalities=["text"], fusion={"name": "late", "width": 16, "heads": 2, "dropout": 0.0})
    studies = [tiny_study(n) for n in range(30)]
    preprocessing = Preprocessing.fit(recipe, studies)
    torch.manual_seed(0)
    model = DiagnosisModel(recipe, FINDINGS, preprocessing)
    optimiser = torch.optim.Adam(model.parameters(), 3e-3)
    items = [preprocessing.prepare(study) for study in studies]
    target = torch.tensor([[float("fever" in study.parts["text"][0].text)] * 2 for study in studies])
    for _ in range(60):
        loss = torch.nn.functional.binary_cross_entropy_with_logits(model(preprocessing.collate(items)).fused, target)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss < 0.1
    study = Study({"text": (Note(NoteKind.HISTORY, "cough wheeze fever chills", NOON),)})
    for level in ("fast", "thorough"):
        (finding, *_), _ = explain(
            model.eval(),
            preprocessing,
            artifact.calibration,
            preprocessing.prepare(study),
            FINDINGS,
            ("pneumonia",),
            level,
        )
        strongest = max(finding.parts.get("text", ()), key=lambda word: word.weight)
        assert strongest.text == "fever", level


def test_subsets_fused_in_one_batch_are_what_each_gives_alone(artifact: Artifact) -> None:
    case = case_of(artifact, tiny_study(7))
    found = case.subset_log_odds()
    assert set(found) == {frozenset(), *nonempty_subsets(ALL)}
    for subset in nonempty_subsets(ALL):
        keep = {m: torch.tensor([m in subset]) for m in case.tokens}
        with torch.no_grad():
            logits = artifact.model.fuse(artifact.model.without(case.tokens, keep)).double().numpy()
        expected = artifact.calibration.log_odds(logits, subset_key(subset))[0]
        assert found[subset] == pytest.approx(expected, abs=1e-6), subset


def test_more_modalities_than_shapley_values_can_be_exact_for_are_refused(
    artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cases_of_explanation, "MOST_MODALITIES", 2)
    with pytest.raises(InputError, match="at most 2"):
        _explain(artifact, tiny_study(3))


def test_unknown_findings_and_levels_are_refused(artifact: Artifact) -> None:
    with pytest.raises(InputError, match="level"):
        _explain(artifact, tiny_study(1), "deep")
    with pytest.raises(InputError, match="must be one of pneumonia, effusion"):
        _explain(artifact, tiny_study(1), names=("gout",))


def test_the_logits_are_those_of_a_forward_pass(artifact: Artifact) -> None:
    study = tiny_study(6)
    _, logits = _explain(artifact, study)
    with torch.no_grad():
        expected = artifact.model(artifact.preprocessing.collate([artifact.preprocessing.prepare(study)]))
    assert torch.allclose(logits.fused, expected.fused, atol=1e-6)
    assert logits.features.keys() == expected.features.keys()
    for name, feature in expected.features.items():
        assert torch.allclose(logits.features[name], feature, atol=1e-6), name
    for modality, expected_logits in expected.unimodal.items():
        assert torch.allclose(logits.unimodal[modality], expected_logits, atol=1e-6)


def test_nothing_asked_for_is_nothing_explained(artifact: Artifact) -> None:
    explained, logits = _explain(artifact, tiny_study(6), names=())
    assert explained == ()
    assert logits.fused.shape == (1, 2)


def test_explaining_leaves_no_gradient_behind(artifact: Artifact) -> None:
    _explain(artifact, tiny_study(1))
    assert all(parameter.grad is None for parameter in artifact.model.parameters())
    assert np.isfinite(_explain(artifact, tiny_study(2))[1].fused.numpy()).all()
