"""What tests run in several processes; light, so that a process is soon there."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from training.runtime.distributed import Share, average_gradients, average_statistics, mean_over_processes, rank, world


def write_means(folder: Path) -> None:
    """Means of what differs between the processes, written down by each."""
    own = float(rank())
    weights = [torch.zeros(2), torch.zeros(3), torch.zeros(1)]
    gradients = [torch.full((2,), own), None if rank() else torch.ones(3), None]
    norm = nn.BatchNorm1d(2)
    with torch.no_grad():
        norm.running_mean.fill_(4 * own)
    average_statistics(norm)
    found = {
        "world": world(),
        "mean": mean_over_processes(torch.tensor([own, 1.0])),
        "gradients": average_gradients(gradients, weights),
        "statistics": norm.running_mean,
        "share": Share.of_batch(3).take(torch.arange(6)),
    }
    torch.save(found, folder / f"{rank()}.pt")
