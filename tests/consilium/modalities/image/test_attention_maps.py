"""Attention of a tiny ViT, multiplied by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from consilium.explain.case import Case
from consilium.modalities.image import attention_maps as attention
from consilium.modalities.image import saliency_maps as images
from tests.consilium.explain.cases import BOTH, case_of
from tests.consilium.tiny import tiny_study
from tests.consilium.tiny_artifact import tiny_artifact


@pytest.fixture(scope="module")
def case() -> Case:
    vit = {"encoder": "vit", "width": 16, "size": 128, "patch": 8, "depth": 3}
    return case_of(tiny_artifact(image=vit), tiny_study(4))


def _weights(case: Case) -> list[torch.Tensor]:
    return [case.traced[layer] for layer in attention.attention_layers(case.model)]


def test_every_layer_is_seen_and_looks_everywhere(case: Case) -> None:
    weights = _weights(case)
    assert [tuple(w.shape) for w in weights] == [(1, 4, 256, 256)] * 3
    for w in weights:
        assert torch.allclose(w.sum(-1), torch.ones(1, 4, 256), atol=1e-5)


def test_rollout_multiplies_half_attention_half_itself(case: Case) -> None:
    first, second, third = (0.5 * w[0].detach().mean(0) + 0.5 * torch.eye(256) for w in _weights(case))
    expected = (third @ second @ first).mean(0).reshape(16, 16).numpy()
    found = attention.attention_rollout(case, BOTH)
    assert found.shape == (2, 1, 16, 16)
    assert found[0, 0] == pytest.approx(expected, abs=1e-6)
    assert np.array_equal(found[0], found[1])
    assert found[0].sum() == pytest.approx(1, abs=1e-4)


def test_gradient_attention_passes_relevance_back_through_the_layers(case: Case) -> None:
    weights, last = _weights(case), case.traced[images.last_stage(case.model)]
    found = attention.gradient_attention(case, BOTH)
    for position in BOTH:
        target = (case.fused * case.direction(case.fused, position)).sum()
        *slopes, slope = torch.autograd.grad(target, [*weights, last], retain_graph=True)
        relevance = (last * slope).sum(2).reshape(256).detach()
        steps = [torch.eye(256) + torch.relu(w * s)[0].detach().mean(0) for w, s in zip(weights, slopes, strict=True)]
        expected = relevance @ steps[2] @ steps[1] @ steps[0]
        assert found[position, 0].reshape(256) == pytest.approx(expected.numpy(), abs=1e-5)
    assert np.abs(found[0] - found[1]).max() > 1e-4
