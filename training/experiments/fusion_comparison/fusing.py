"""One fusion trained on the tokens of encoders that no longer learn.

The loss, modality dropout and what is watched on the validation split are those of the whole model's training
(`training.fitting.lightning_module`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from consilium.configuration.recipe import Recipe
from consilium.domain.errors import TrainingError
from consilium.domain.findings import FindingSet
from consilium.modalities.registry import nonempty_subsets, subset_key
from consilium.modalities.tokens import Tokens
from consilium.network.fusion import FUSIONS, FindingHead
from training.data.datamodule import EpochSampler
from training.evaluation.predictions import Predictions
from training.experiments.fusion_comparison.small_loop import Fitted, fit_loop, seeded
from training.experiments.fusion_comparison.tokens import TokenSet
from training.fitting.modality_dropout import modality_dropout
from training.fitting.objectives.likelihood import log_likelihood_sum, negative_log_likelihood

Said = dict[str, Tokens]


class FusedHead(nn.Module):
    """What stands above the encoders of a `DiagnosisModel`: the recipe's fusion and the fused head."""

    def __init__(self, recipe: Recipe, modalities: tuple[str, ...], findings: FindingSet) -> None:
        super().__init__()
        self.modalities = modalities
        self.fusion = FUSIONS[recipe.fusion.name](recipe.fusion, modalities, len(findings))
        self.head = FindingHead(recipe.fusion.width, len(findings))

    def forward(self, tokens: Said) -> Tensor:
        """Fused logits [B, F]."""
        return self.head(self.fusion(tokens))

    def subsets(self, tokens: Said) -> Iterator[tuple[str, Tensor, Tensor]]:
        """Of every subset of the modalities: its key, logits [B, F], and which studies have all of it, bool [B]."""
        for subset in nonempty_subsets(self.modalities):
            heard = torch.stack([tokens[modality].present for modality in subset]).all(dim=0)
            yield subset_key(subset), self({m: t if m in subset else _silent(t) for m, t in tokens.items()}), heard


def _silent(tokens: Tokens) -> Tokens:
    """An absent modality; one masked token costs less than all of them."""
    return Tokens(tokens.values[:, :1], torch.zeros_like(tokens.mask[:, :1]))


def fit_fusion(recipe: Recipe, findings: FindingSet, train: TokenSet, validation: TokenSet) -> Fitted[FusedHead]:
    """Train the recipe's fusion on `train`, watching `validation`: NLL, mean over the modality subsets.

    The same arguments give the same weights on one machine.

    Raises
    ------
    TrainingError
        The validation loss is not finite, or no validation study has a known label.
    """
    size, exclusive = recipe.training.batch_size, findings.exclusive
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = seeded(lambda: FusedHead(recipe, train.modalities, findings), recipe.seed).to(device)
    sampler = EpochSampler(len(train), recipe.seed)

    def batches(epoch: int) -> Iterator[tuple[Said, Tensor]]:
        sampler.set_epoch(epoch)
        return _batches(train, np.fromiter(sampler, np.int64), size, device)

    def loss(batch: tuple[Said, Tensor], seed: int) -> Tensor:
        tokens, labels = batch
        present = {modality: said.present for modality, said in tokens.items()}
        kept = modality_dropout(present, recipe.training.modality_dropout, torch.Generator().manual_seed(seed))
        left = {modality: said.keep(kept[modality]) for modality, said in tokens.items()}
        fused = negative_log_likelihood(model(tokens), labels, exclusive=exclusive)
        subset = negative_log_likelihood(model(left), labels, exclusive=exclusive)
        return recipe.objectives.fused * fused + recipe.objectives.subset * subset

    return fit_loop(
        recipe.fusion.name,
        model,
        recipe,
        batches,
        -(-len(train) // size),
        loss,
        lambda: _validation_loss(model, _batches(validation, np.arange(len(validation)), size, device), exclusive),
    )


def predict_fusion(model: FusedHead, tokens: TokenSet, batch_size: int) -> Predictions:
    """Uncalibrated logits of every study of `tokens`, through every subset of its modalities."""
    device = next(model.parameters()).device
    fused: dict[str, list[npt.NDArray]] = defaultdict(list)
    with torch.inference_mode():
        for said, _ in _batches(tokens, np.arange(len(tokens)), batch_size, device):
            for key, logits, heard in model.subsets(said):
                fused[key].append(torch.where(heard[:, None], logits, torch.nan).double().cpu().numpy())
    return Predictions(
        study_ids=tokens.study_ids,
        patient_ids=tokens.patient_ids,
        labels=tokens.labels.astype(np.float64),
        present=tokens.present,
        fused={key: np.concatenate(parts) for key, parts in fused.items()},
        opinions={},
    )


def _batches(
    tokens: TokenSet, rows: npt.NDArray[np.int64], size: int, device: torch.device
) -> Iterator[tuple[Said, Tensor]]:
    for start in range(0, len(rows), size):
        said, labels = tokens.batch(rows[start : start + size])
        yield {m: Tokens(t.values.to(device), t.mask.to(device)) for m, t in said.items()}, labels.to(device)


def _validation_loss(model: FusedHead, batches: Iterator[tuple[Said, Tensor]], exclusive: bool) -> float:
    """NLL of each subset over the studies that have it, mean over the subsets."""
    sums: dict[str, float] = defaultdict(float)
    counts: dict[str, float] = defaultdict(float)
    for tokens, labels in batches:
        for key, logits, heard in model.subsets(tokens):
            total, count = log_likelihood_sum(logits, labels, exclusive=exclusive, rows=heard)
            sums[key] += float(total)
            counts[key] += float(count)
    known = [sums[key] / count for key, count in counts.items() if count > 0]
    if not known:
        raise TrainingError("the validation split has no study with a known label")
    return float(np.mean(known))
