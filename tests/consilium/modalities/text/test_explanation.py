from __future__ import annotations

import numpy as np
import pytest
import torch

from consilium.artifacts.artifact import Artifact
from consilium.explain.case import Case
from consilium.modalities.text import explanation as words
from tests.consilium.explain.cases import BOTH, case_of, words_study
from tests.consilium.tiny import tiny_study
from tests.consilium.tiny_artifact import tiny_artifact


@pytest.fixture(scope="module")
def artifact() -> Artifact:
    return tiny_artifact()


@pytest.fixture(scope="module")
def case(artifact: Artifact) -> Case:
    return case_of(artifact, tiny_study(5))


def test_gradients_of_pieces_add_up_to_the_word(case: Case) -> None:
    found = words.gradient_x_embedding(case, BOTH)
    average = case.model.encoders["text"].model.get_input_embeddings().weight.detach().mean(0)
    target = (case.fused * case.direction(case.fused, 1)).sum()
    (slope,) = torch.autograd.grad(target, case.traced["text"], retain_graph=True)
    for number, (word, pieces) in enumerate(case.units["text"]):
        expected = sum(((case.traced["text"][0, i] - average) * slope[0, i]).sum().item() for i in pieces.tolist())
        assert found[1, number] == pytest.approx(expected, abs=1e-5), word.text


def test_integrated_gradients_add_up_to_what_the_words_changed() -> None:
    case = case_of(tiny_artifact(seed=2), tiny_study(5))  # weights by which words change both findings
    encoder = case.model.encoders["text"]
    own = case.traced["text"].detach().clone()
    average = encoder.model.get_input_embeddings().weight.detach().mean(0)
    for _, pieces in case.units["text"]:
        own[0, torch.from_numpy(pieces)] = average
    with torch.no_grad():
        tokens = encoder.from_embeddings(case.batch.inputs["text"], own)
        without = case.log_odds(case.fuse_with("text", tokens))[0]
    changed = case.log_odds(case.fused)[0] - without
    assert words.integrated_gradients(case, BOTH).sum(axis=1) == pytest.approx(changed, rel=0.005)
    assert np.abs(changed).min() > 0.1


def test_a_word_left_out_is_masked(case: Case) -> None:
    found = words.leave_one_out(case, BOTH)
    word, pieces = case.units["text"][2]
    batch = case.batch
    mask = batch.inputs["text"]["mask"].clone()
    mask[0, torch.from_numpy(pieces)] = False
    with torch.no_grad():
        tokens = case.model.encoders["text"]({**batch.inputs["text"], "mask": mask})
        logits = case.model.fuse({**case.tokens, "text": tokens})
    assert found[:, 2] == pytest.approx((case.log_odds(case.fused) - case.log_odds(logits))[0], abs=1e-6), word.text


def test_words_that_are_cut_off_have_no_weight(artifact: Artifact) -> None:
    case = case_of(artifact, words_study("fever " * 100))
    assert 0 < len(case.units["text"]) < 32
    assert words.leave_one_out(case, [0]).shape == (1, len(case.units["text"]))
