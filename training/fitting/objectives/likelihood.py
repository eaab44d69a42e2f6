"""Negative log-likelihood and divergence, as sums and the counts that they are summed over."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

Summed = tuple[Tensor, Tensor]
"""A sum and the number of labels or distributions that it is summed over, float [] each."""


def log_likelihood_sum(logits: Tensor, labels: Tensor, *, exclusive: bool, rows: Tensor | None = None) -> Summed:
    """Summed negative log-likelihood and the number of labels it is summed over.

    Parameters
    ----------
    logits : float [B, F]
    labels : float [B, F]
        1 present, 0 absent, NaN unknown.
    exclusive : bool
        One softmax over the findings: a study counts once, where the true finding is known. Otherwise a sigmoid for
        each finding: every known label counts.
    rows : bool [B] or None
        Studies that take part.

    Returns
    -------
    (float [], float [])
        Both 0 where nothing is known; the first keeps its gradient.
    """
    known = torch.isfinite(labels)
    if rows is not None:
        known = known & rows[:, None]
    if exclusive:
        true = known & (labels == 1)
        picked = -F.log_softmax(logits, dim=1)
        return torch.where(true, picked, 0).sum(), true.any(dim=1).sum().to(logits.dtype)
    targets = torch.where(known, labels, 0).to(logits.dtype)
    each = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    return torch.where(known, each, 0).sum(), known.sum().to(logits.dtype)


def negative_log_likelihood(logits: Tensor, labels: Tensor, *, exclusive: bool, rows: Tensor | None = None) -> Tensor:
    """Mean of `log_likelihood_sum` over the known labels; 0 where there are none."""
    total, count = log_likelihood_sum(logits, labels, exclusive=exclusive, rows=rows)
    return mean_of(total, count)


def divergence_sum(logits: Tensor, teacher: Tensor, *, exclusive: bool, rows: Tensor) -> Summed:
    """Summed Kullback-Leibler divergence from a teacher's distribution, and the number of distributions.

    The teacher is a model of one modality alone (uni-modal teacher, Du et al., ICML 2023). The student follows its
    probabilities (Hinton et al. 2015, at temperature 1) and not its features, which may differ.

    Parameters
    ----------
    logits : float [B, F]
    teacher : float [B, F]
        Logits; NaN where the teacher has none.
    exclusive : bool
        One distribution over the findings for each study; otherwise one for each finding.
    rows : bool [B]
        Studies that take part.
    """
    known = torch.isfinite(teacher) & rows[:, None]
    teacher = torch.where(known, teacher, 0).to(logits.dtype)
    if exclusive:
        known = known.all(dim=1)
        target, own = F.log_softmax(teacher, dim=1), F.log_softmax(logits, dim=1)
        each = F.kl_div(own, target, reduction="none", log_target=True).sum(dim=1)
    else:
        probabilities = torch.sigmoid(teacher)
        cross = F.binary_cross_entropy_with_logits(logits, probabilities, reduction="none")
        each = cross - F.binary_cross_entropy_with_logits(teacher, probabilities, reduction="none")
    return torch.where(known, each, 0).sum(), known.sum().to(logits.dtype)


def mean_of(total: Tensor, count: Tensor) -> Tensor:
    """`total` over `count`, which may be less than 1 where it is a mean itself; 0 where nothing is known."""
    return total / torch.where(count > 0, count, 1)
