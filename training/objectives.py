"""What training minimises: a weighted sum of negative log-likelihoods.

The fused head on everything a study has, the fused head on what modality dropout left of it, and each modality's own
head. Labels that are not known take no part, and no class is weighted: weights would tear the probabilities from the
frequencies (Van den Goorbergh et al., JAMIA 2022).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from consilium.recipe import ObjectivesRecipe
from consilium.study import Modality


def log_likelihood_sum(
    logits: Tensor, labels: Tensor, *, exclusive: bool, rows: Tensor | None = None
) -> tuple[Tensor, Tensor]:
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
    return total / count.clamp(min=1)


def training_losses(
    weights: ObjectivesRecipe,
    labels: Tensor,
    *,
    exclusive: bool,
    fused: Tensor,
    subset: Tensor,
    opinions: dict[Modality, Tensor],
    present: dict[Modality, Tensor],
) -> dict[str, Tensor]:
    """Each term by its name, and their weighted sum as ``total``.

    Parameters
    ----------
    fused, subset : float [B, F]
        Fused logits on everything the study has, and on what modality dropout left.
    opinions : dict of float [B, F]
    present : dict of bool [B]
        A modality's own head learns from the studies that have the modality.
    """
    terms = {
        "fused": negative_log_likelihood(fused, labels, exclusive=exclusive),
        "subset": negative_log_likelihood(subset, labels, exclusive=exclusive),
    }
    for modality, logits in opinions.items():
        terms[modality.value] = negative_log_likelihood(logits, labels, exclusive=exclusive, rows=present[modality])
    own = torch.stack([terms[modality.value] for modality in opinions]).sum()
    terms["total"] = weights.fused * terms["fused"] + weights.subset * terms["subset"] + weights.modality * own
    return terms


def modality_dropout(
    present: dict[Modality, Tensor], rates: dict[Modality, float], generator: torch.Generator
) -> dict[Modality, Tensor]:
    """Which modalities each study keeps, bool [B] per modality: every study keeps at least one that it has.

    Parameters
    ----------
    present : dict of bool [B]
    rates : dict of float
        Probability that a modality is dropped; one that is not named is never dropped.
    generator : torch.Generator
        On the CPU, whatever the device of `present`: the same draws everywhere.
    """
    modalities = list(present)
    has = torch.stack([present[modality] for modality in modalities], dim=1)
    chances = torch.tensor([rates.get(modality, 0.0) for modality in modalities])
    draws = torch.rand(has.shape, generator=generator)
    spared = torch.rand(has.shape, generator=generator).to(has.device)
    kept = has & (draws >= chances).to(has.device)
    # Where all would go, one stays: the study's modality with the highest second draw.
    chosen = torch.where(has, spared, -1.0).argmax(dim=1, keepdim=True)
    fallback = torch.zeros_like(has).scatter(1, chosen, value=True) & has
    kept = torch.where(kept.any(dim=1, keepdim=True), kept, fallback)
    return {modality: kept[:, column] for column, modality in enumerate(modalities)}
