"""MMPareto: the gradients that an encoder gets from the fused head and from its own head, made to agree.

Wei & Hu, "MMPareto: Boosting Multimodal Learning with Innocent Unimodal Assistance", ICML 2024. Where the two point
against each other, their sum gives way to the shortest vector between them, which hurts neither, made as long as the
sum was. The paper's constant factor on the result is left out: AdamW divides it away.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from training.runtime.distributed import average_gradients


def pareto_backward(multimodal: Tensor, unimodal: Tensor, encoders: Sequence[nn.Module], model: nn.Module) -> None:
    """Differentiate both losses, and leave in each parameter's ``grad`` what the optimiser is to follow.

    Parameters
    ----------
    multimodal, unimodal : float []
        Losses of one forward pass.
    encoders : sequence of Module
        Parts of `model` that both losses reach; the rest of it gets the sum of both gradients.
    """
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    from_fused = torch.autograd.grad(multimodal, parameters, retain_graph=True, allow_unused=True)
    from_own = torch.autograd.grad(unimodal, parameters, allow_unused=True)
    both = average_gradients([*from_fused, *from_own], [*parameters, *parameters])
    fused = dict(zip(parameters, both[: len(parameters)], strict=True))
    own = dict(zip(parameters, both[len(parameters) :], strict=True))
    for parameter in parameters:
        there = [gradient for gradient in (fused[parameter], own[parameter]) if gradient is not None]
        parameter.grad = sum(there[1:], start=there[0]) if there else None
    for encoder in encoders:
        shared = [p for p in encoder.parameters() if fused.get(p) is not None and own[p] is not None]
        if shared:
            joined = [torch.cat([gradients[p].flatten() for p in shared]) for gradients in (fused, own)]  # type: ignore[union-attr]
            parts = torch.split(integrate(*joined), [parameter.numel() for parameter in shared])
            for parameter, part in zip(shared, parts, strict=True):
                parameter.grad = part.view_as(parameter)


def integrate(fused: Tensor, own: Tensor) -> Tensor:
    """One gradient out of two, float [P]: their sum, or where they conflict their Pareto direction at its length.

    The shortest vector of the segment between two gradients is known in closed form (Désidéri 2012; Sener & Koltun
    2018, equation 4).
    """
    total = fused + own
    gap = own - fused
    weight = (gap @ own / gap.square().sum()).clamp(0, 1)
    nearest = weight * fused + (1 - weight) * own
    # Gradients that cancel out have no common direction, and rounding is not made into one.
    least = 1e-3 * (fused.norm() + own.norm())
    stretched = nearest * (total.norm() / nearest.norm().clamp(min=least))
    return torch.where(fused @ own < 0, stretched, total)
