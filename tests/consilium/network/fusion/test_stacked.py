"""The linear fusion: whitening, additive evidence and its place in the model."""

import pytest
import torch

from consilium.configuration.recipe import FusionRecipe
from consilium.modalities.tokens import Tokens
from consilium.network.fusion.stacked import StackedFusion
from consilium.network.whitening import Whitening

NAMES = ("image", "text")


def tokens(present=(True, True)):
    draw = torch.Generator().manual_seed(0)
    return {
        name: Tokens(torch.randn(3, 4, 16, generator=draw), torch.full((3, 4), there))
        for name, there in zip(NAMES, present, strict=True)
    }


def test_state_holds_mean_tokens_and_presence_and_nothing_of_what_is_absent():
    fusion = StackedFusion(FusionRecipe(name="stacked", width=16), NAMES, 1)
    found = tokens((True, False))
    state = fusion(found)
    assert state.shape == (3, fusion.state_width)
    assert torch.equal(state[:, fusion.columns("image")][:, :-1], found["image"].mean())
    assert state[:, fusion.columns("image")][:, -1].tolist() == [1, 1, 1]
    assert state[:, fusion.columns("text")].abs().sum() == 0


def test_whitening_projects_the_mean_of_the_tokens():
    whitening = Whitening(2, 3)
    whitening.mean.copy_(torch.tensor([1.0, 2.0]))
    whitening.scale.copy_(torch.tensor([2.0, 4.0]))
    whitening.components[:2] = torch.eye(2)
    values = torch.tensor([[[1.0, 2.0], [5.0, 10.0], [torch.inf, 0.0]]])
    found = whitening(Tokens(values, torch.tensor([[True, True, False]])))
    assert found.values.tolist() == [[[1.0, 1.0, 0.0]]]
    assert found.mask.tolist() == [[True]]


def test_whitening_of_an_absent_modality_is_finite_and_absent():
    found = Whitening(2, 3)(Tokens(torch.full((1, 2, 2), torch.nan), torch.zeros(1, 2, dtype=torch.bool)))
    assert not found.mask.any()
    assert torch.isfinite(found.values).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16])
def test_whitening_is_of_full_precision_under_autocast(dtype):
    whitening = Whitening(2, 2)
    whitening.mean.fill_(1000)
    whitening.components.copy_(torch.eye(2))
    with torch.autocast("cpu", dtype):
        found = whitening(Tokens(torch.full((1, 1, 2), 1000.5), torch.ones(1, 1, dtype=torch.bool)))
    assert found.values.tolist() == [[[0.5, 0.5]]]
