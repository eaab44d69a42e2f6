"""The means that make a step over several processes the step that one process would make. Alone, they cost nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn


def rank() -> int:
    """Which of the processes this is; 0 leads."""
    return dist.get_rank() if dist.is_initialized() else 0


def world() -> int:
    """How many processes train together now."""
    return dist.get_world_size() if dist.is_initialized() else 1


@dataclass(frozen=True, slots=True)
class Share:
    """The part of a global batch that this process has: `count` of `studies`, from `first` on.

    What is drawn at random for a step is drawn for the global batch in every process, and each takes its part: the
    number of processes makes no difference to what happens to a study.
    """

    studies: int
    first: int
    count: int

    @classmethod
    def of_batch(cls, count: int) -> Share:
        """Of a local batch of `count` studies, where every process has as many."""
        return cls(count * world(), count * rank(), count)

    def take(self, draws: Tensor) -> Tensor:
        """The rows of `draws`, [studies, ...], that belong to this process."""
        return draws[self.first : self.first + self.count]


def mean_over_processes(values: Tensor) -> Tensor:
    """Mean of `values` over all processes, of the same shape everywhere; no gradient passes."""
    if world() == 1:
        return values
    total = values.detach().clone()
    dist.all_reduce(total)
    return total / world()


def average_statistics(model: nn.Module) -> None:
    """Give every process the mean of the running statistics of batch normalisation, which saw one share each.

    Those of a module in evaluation mode, such as one of a frozen encoder, saw nothing.
    """
    learning = [module for module in model.modules() if module.training]
    buffers = [buffer for module in learning for buffer in module.buffers(recurse=False)]
    statistics = [buffer for buffer in buffers if buffer.is_floating_point()]
    if world() == 1 or not statistics:
        return
    means = mean_over_processes(torch.cat([buffer.flatten() for buffer in statistics]))
    for buffer, mean in zip(statistics, torch.split(means, [buffer.numel() for buffer in statistics]), strict=True):
        buffer.copy_(mean.view_as(buffer))


def average_gradients(gradients: Sequence[Tensor | None], like: Sequence[Tensor]) -> list[Tensor | None]:
    """Mean of each gradient over all processes, in one exchange; None where no process has one.

    Parameters
    ----------
    gradients : sequence of (Tensor or None)
    like : sequence of Tensor
        The parameters; None counts as zeros of their shape.
    """
    if world() == 1:
        return list(gradients)
    used = torch.tensor([float(gradient is not None) for gradient in gradients], device=like[0].device)
    filled = [torch.zeros_like(p) if g is None else g for g, p in zip(gradients, like, strict=True)]
    means = mean_over_processes(torch.cat([used, *(gradient.flatten() for gradient in filled)]))
    used, *parts = torch.split(means, [len(filled), *(gradient.numel() for gradient in filled)])
    return [
        mean.view_as(parameter) if anywhere > 0 else None
        for mean, parameter, anywhere in zip(parts, like, used.tolist(), strict=True)
    ]
