from __future__ import annotations

import pytest
import torch
from scipy.optimize import minimize_scalar
from torch import nn

from training.fitting.pareto import integrate, pareto_backward


def test_gradients_that_agree_are_added():
    one, other = torch.tensor([1.0, 0.0]), torch.tensor([1.0, 2.0])
    assert torch.equal(integrate(one, other), torch.tensor([2.0, 2.0]))
    assert torch.equal(integrate(torch.zeros(2), other), other)


@pytest.mark.parametrize("seed", range(5))
def test_gradients_in_conflict_go_where_both_losses_fall(seed: int):
    generator = torch.Generator().manual_seed(seed)
    one, other = torch.randn(6, generator=generator), 3 * torch.randn(6, generator=generator)
    if one @ other > 0:
        one = -one
    merged = integrate(one, other)
    # The shortest convex combination, found numerically.
    shortest = minimize_scalar(
        lambda w: (w * one + (1 - w) * other).norm().item(), bounds=(0, 1), options={"xatol": 1e-9}
    )
    nearest = shortest.x * one + (1 - shortest.x) * other
    assert torch.cosine_similarity(merged, nearest, dim=0).item() == pytest.approx(1, abs=1e-6)
    assert merged.norm().item() == pytest.approx((one + other).norm().item(), rel=1e-5)
    assert merged @ one > 0
    assert merged @ other > 0


def test_gradients_that_cancel_out_move_nothing():
    one = torch.tensor([1.0, -2.0, 0.3])
    assert integrate(one, -one).abs().max() < 1e-6
    assert integrate(one, -2 * one).abs().max() < 1e-4


class Council(nn.Module):
    """Two encoders; the fused head hears both, one has a head of its own, and one weight learns from nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.encoders = nn.ModuleList([nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False)])
        self.head = nn.Linear(4, 1)
        self.own = nn.Linear(2, 1)
        self.idle = nn.Parameter(torch.ones(1))

    def losses(self, x: torch.Tensor, sign: float) -> tuple[torch.Tensor, torch.Tensor]:
        encoded = [encoder(x) for encoder in self.encoders]
        return self.head(torch.cat(encoded, dim=1)).square().sum(), sign * self.own(
            encoded[0]
        ).sum() + self.head.bias.sum()


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_only_what_both_losses_share_in_an_encoder_is_integrated(sign: float):
    torch.manual_seed(0)
    model = Council()
    x = torch.randn(3, 2)
    expected = []
    for loss in model.losses(x, sign):
        model.zero_grad()
        loss.backward(retain_graph=True)
        expected.append({n: None if p.grad is None else p.grad.clone() for n, p in model.named_parameters()})
    model.zero_grad()
    pareto_backward(*model.losses(x, sign), list(model.encoders), model)
    found = {name: parameter.grad for name, parameter in model.named_parameters()}
    fused, own = expected
    shared = integrate(fused["encoders.0.weight"].flatten(), own["encoders.0.weight"].flatten()).view(2, 2)
    assert torch.allclose(found["encoders.0.weight"], shared)
    conflict = (fused["encoders.0.weight"] * own["encoders.0.weight"]).sum() < 0
    plain = fused["encoders.0.weight"] + own["encoders.0.weight"]
    assert torch.allclose(shared, plain) != conflict
    assert torch.equal(found["encoders.1.weight"], fused["encoders.1.weight"])
    assert torch.allclose(found["head.bias"], fused["head.bias"] + own["head.bias"])
    assert torch.equal(found["own.weight"], own["own.weight"])
    assert found["idle"] is None
