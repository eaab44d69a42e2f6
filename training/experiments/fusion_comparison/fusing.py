"""One fusion trained on the tokens of encoders that no longer learn.

The loss, modality dropout and what is watched on the validation split are those of the whole model's training
(`training.fitting.lightning_module`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from consilium.configuration.recipe import Recipe
from consilium.domain.findings import FindingSet
from consilium.modalities.registry import nonempty_subsets, subset_key
from consilium.modalities.tokens import Tokens
from consilium.network.fusion import FUSIONS, FindingHead
from consilium.network.subsets import Subset, few_subsets, fuse_subsets
from training.data.datamodule import EpochSampler
from training.evaluation.predictions import Predictions
from training.experiments.fusion_comparison.small_training import Fitted, SmallTraining, fit_small
from training.experiments.fusion_comparison.tokens import TokenSet
from training.fitting.modality_dropout import modality_dropout
from training.fitting.objectives.likelihood import Summed, log_likelihood_sum, negative_log_likelihood
from training.fitting.scheduled_module import seeded

StudyTokens = dict[str, Tokens]


class FusedHead(nn.Module):
    """What stands above the encoders of a `DiagnosisModel`: the recipe's fusion and the fused head."""

    def __init__(self, recipe: Recipe, modalities: tuple[str, ...], findings: FindingSet) -> None:
        super().__init__()
        self.modalities = modalities
        self.fusion = FUSIONS[recipe.fusion.name](recipe.fusion, modalities, len(findings))
        self.head = FindingHead(recipe.fusion.width, len(findings))

    def forward(self, tokens: StudyTokens) -> Tensor:
        """Fused logits [B, F]."""
        return self.head(self.fusion(tokens))

    def subsets(self, tokens: StudyTokens, chosen: Sequence[Subset]) -> Iterator[tuple[str, Tensor, Tensor]]:
        """Of each of the subsets `chosen`: its key, logits [B, F], and which studies have all of it, bool [B]."""
        for subset, logits in fuse_subsets(self, tokens, chosen).items():
            known = torch.stack([tokens[modality].present for modality in subset]).all(dim=0)
            yield subset_key(subset), logits, known


@dataclass(frozen=True, slots=True, eq=False)
class TokenBatch:
    """Tokens of some studies by modality, and their labels float [B, F]."""

    tokens: StudyTokens
    labels: Tensor

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> TokenBatch:
        moved = {
            modality: Tokens(
                one.values.to(device, non_blocking=non_blocking), one.mask.to(device, non_blocking=non_blocking)
            )
            for modality, one in self.tokens.items()
        }
        return TokenBatch(moved, self.labels.to(device, non_blocking=non_blocking))


def fit_fusion(
    recipe: Recipe, findings: FindingSet, train: TokenSet, validation: TokenSet, folder: Path
) -> Fitted[FusedHead]:
    """Train the recipe's fusion on `train`, watching `validation`: NLL, mean over the modality subsets.

    The same arguments give the same weights on one machine.

    Parameters
    ----------
    folder : Path
        For checkpoints, until the training has ended.

    Raises
    ------
    TrainingError
        The validation loss is not finite, or no validation study has a known label.
    """
    size, exclusive = recipe.training.batch_size, findings.exclusive
    model = seeded(lambda: FusedHead(recipe, train.modalities, findings), recipe.seed)

    def loss(batch: TokenBatch, seed: int) -> Tensor:
        present = {modality: one.present for modality, one in batch.tokens.items()}
        kept = modality_dropout(present, recipe.modality_dropout, torch.Generator().manual_seed(seed))
        left = {modality: one.keep(kept[modality]) for modality, one in batch.tokens.items()}
        fused = negative_log_likelihood(model(batch.tokens), batch.labels, exclusive=exclusive)
        subset = negative_log_likelihood(model(left), batch.labels, exclusive=exclusive)
        return recipe.objectives.fused * fused + recipe.objectives.subset * subset

    def watched(batch: TokenBatch) -> Iterator[tuple[str, Summed]]:
        for key, logits, known in model.subsets(batch.tokens, few_subsets(model.modalities)):
            yield key, log_likelihood_sum(logits, batch.labels, exclusive=exclusive, rows=known)

    training = SmallTraining(f"{recipe.fusion.name} on kept tokens", loss, watched)
    batches = token_loader(train, size, EpochSampler(len(train), recipe.seed))
    return fit_small(training, model, recipe, batches, token_loader(validation, size), folder)


def token_loader(tokens: TokenSet, size: int, sampler: EpochSampler | None = None) -> DataLoader[int]:
    """Batches of `tokens`, `TokenBatch` each, in their order unless there is a `sampler`."""

    def collate(rows: list[int]) -> TokenBatch:
        return TokenBatch(*tokens.batch(np.array(rows, np.int64)))

    return DataLoader(range(len(tokens)), size, sampler=sampler, collate_fn=collate)  # type: ignore[arg-type]


def predict_fusion(model: FusedHead, tokens: TokenSet, batch_size: int) -> Predictions:
    """Uncalibrated logits of every study of `tokens`, through every subset of its modalities."""
    device = next(model.parameters()).device
    every, fused = nonempty_subsets(model.modalities), defaultdict[str, list[npt.NDArray]](list)
    with torch.inference_mode():
        for batch in token_loader(tokens, batch_size):
            for key, logits, known in model.subsets(batch.to(device).tokens, every):
                fused[key].append(torch.where(known[:, None], logits, torch.nan).double().cpu().numpy())
    return Predictions(
        study_ids=tokens.study_ids,
        patient_ids=tokens.patient_ids,
        labels=tokens.labels.astype(np.float64),
        present=tokens.present,
        fused={key: np.concatenate(parts) for key, parts in fused.items()},
        unimodal={},
    )
