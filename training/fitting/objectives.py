"""What training minimises: a weighted sum of negative log-likelihoods.

The fused head on everything a study has, the fused head on what modality dropout left of it, and each modality's own
head, which may have a teacher besides. Labels that are not known take no part, and no class is weighted: weights would
tear the probabilities from the frequencies (Van den Goorbergh et al., JAMIA 2022).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from consilium.configuration.recipe import ObjectivesRecipe
from training.runtime.distributed import Share, mean_over_processes


@dataclass(frozen=True, slots=True, eq=False)
class Losses:
    """The terms of a step by name, unweighted, and their weighted sums.

    Attributes
    ----------
    terms : dict of float []
    multimodal : float []
        Of the fused head.
    unimodal : float []
        Of the modalities' own heads.
    """

    terms: dict[str, Tensor]
    multimodal: Tensor
    unimodal: Tensor

    @property
    def total(self) -> Tensor:
        """What is minimised."""
        return self.multimodal + self.unimodal


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
    return _mean(total, count)


def divergence_sum(logits: Tensor, teacher: Tensor, *, exclusive: bool, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Summed Kullback-Leibler divergence from a teacher's distribution, and the number of distributions.

    The teacher is a model of one modality alone (uni-modal teacher, Du et al., ICML 2023), heard through its
    probabilities (Hinton et al. 2015, at temperature 1) and not its features: the student may see otherwise.

    Parameters
    ----------
    logits : float [B, F]
    teacher : float [B, F]
        Logits; NaN where the teacher says nothing.
    exclusive : bool
        One distribution over the findings for each study; otherwise one for each finding.
    rows : bool [B]
        Studies that take part.
    """
    known = torch.isfinite(teacher) & rows[:, None]
    teacher = torch.where(known, teacher, 0).to(logits.dtype)
    if exclusive:
        known = known.all(dim=1)
        said, heard = F.log_softmax(teacher, dim=1), F.log_softmax(logits, dim=1)
        each = F.kl_div(heard, said, reduction="none", log_target=True).sum(dim=1)
    else:
        probabilities = torch.sigmoid(teacher)
        cross = F.binary_cross_entropy_with_logits(logits, probabilities, reduction="none")
        each = cross - F.binary_cross_entropy_with_logits(teacher, probabilities, reduction="none")
    return torch.where(known, each, 0).sum(), known.sum().to(logits.dtype)


def training_losses(
    weights: ObjectivesRecipe,
    labels: Tensor,
    *,
    exclusive: bool,
    fused: Tensor,
    subset: Tensor,
    opinions: dict[str, Tensor],
    present: dict[str, Tensor],
    teachers: Mapping[str, Tensor] | None = None,
) -> Losses:
    """Each term, a mean over the known labels of the global batch.

    A process that holds a share of the batch divides its own sum by the mean count of all processes, so that the mean
    of the processes' losses, and of their gradients, is that of the whole batch.

    Parameters
    ----------
    fused, subset : float [B, F]
        Fused logits on everything the study has, and on what modality dropout left.
    opinions : dict of float [B, F]
    present : dict of bool [B]
        A modality's own head learns from the studies that have the modality.
    teachers : mapping of float [B, F]
        Logits of each modality's teacher, for its own head.
    """
    sums = {
        "fused": log_likelihood_sum(fused, labels, exclusive=exclusive),
        "subset": log_likelihood_sum(subset, labels, exclusive=exclusive),
    }
    for modality, logits in opinions.items():
        sums[modality] = log_likelihood_sum(logits, labels, exclusive=exclusive, rows=present[modality])
    for modality, said in (teachers or {}).items():
        of_own = divergence_sum(opinions[modality], said, exclusive=exclusive, rows=present[modality])
        sums[_teacher(modality)] = of_own
    counts = mean_over_processes(torch.stack([count for _, count in sums.values()]))
    terms = {name: _mean(total, count) for (name, (total, _)), count in zip(sums.items(), counts, strict=True)}
    own = torch.stack([terms[modality] for modality in opinions]).sum()
    unimodal = weights.modality * own
    if teachers:
        unimodal = unimodal + weights.distillation * torch.stack([terms[_teacher(m)] for m in teachers]).sum()
    return Losses(terms, weights.fused * terms["fused"] + weights.subset * terms["subset"], unimodal)


def _teacher(modality: str) -> str:
    return f"{modality}_teacher"


def _mean(total: Tensor, count: Tensor) -> Tensor:
    """`total` over `count`, which may be less than 1 where it is a mean itself; 0 where nothing is known."""
    return total / torch.where(count > 0, count, 1)


def modality_dropout(
    present: dict[str, Tensor],
    rates: dict[str, float],
    generator: torch.Generator,
    share: Share | None = None,
) -> dict[str, Tensor]:
    """Which modalities each study keeps, bool [B] per modality: every study keeps at least one that it has.

    Parameters
    ----------
    present : dict of bool [B]
    rates : dict of float
        Probability that a modality is dropped; one that is not named is never dropped.
    generator : torch.Generator
        On the CPU, whatever the device of `present`: the same draws everywhere.
    share : Share or None
        Which part of the global batch the B studies are; None: all of it.
    """
    modalities = list(present)
    has = torch.stack([present[modality] for modality in modalities], dim=1)
    share = share or Share(len(has), 0, len(has))
    chances = torch.tensor([rates.get(modality, 0.0) for modality in modalities])
    shape = (share.studies, len(modalities))
    draws = share.take(torch.rand(shape, generator=generator))
    spared = share.take(torch.rand(shape, generator=generator)).to(has.device)
    kept = has & (draws >= chances).to(has.device)
    # Where all would go, one stays: the study's modality with the highest second draw.
    chosen = torch.where(has, spared, -1.0).argmax(dim=1, keepdim=True)
    fallback = torch.zeros_like(has).scatter(1, chosen, value=True) & has
    kept = torch.where(kept.any(dim=1, keepdim=True), kept, fallback)
    return {modality: kept[:, column] for column, modality in enumerate(modalities)}
