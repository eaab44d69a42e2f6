"""Modality dropout: which modalities a training step withholds from the fused model."""

from __future__ import annotations

import torch
from torch import Tensor

from training.runtime.distributed import Share


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
