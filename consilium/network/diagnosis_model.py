"""DiagnosisModel: encoders, a fusion, a head for the joint state and one for each modality alone.

The whole way from a Batch to logits. What becomes of logits is `consilium.calibration`'s business.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import cast

import torch
from torch import Tensor, nn

from consilium.configuration.recipe import Recipe
from consilium.domain.errors import InputError
from consilium.domain.findings import FindingSet
from consilium.domain.targets import step_owners
from consilium.modalities.adaptation import parameter_counts
from consilium.modalities.masked_attention import AttentionPool
from consilium.modalities.registry import find_modality, nonempty_subsets, subset_key
from consilium.modalities.tokens import Dense, Encoder, Tokens
from consilium.network.fusion import FUSIONS, FindingHead
from consilium.network.subsets import Subset, fuse_subsets
from consilium.network.whitening import MeanPool, Whitening
from consilium.preprocessing.batch import Batch
from consilium.preprocessing.collate import Preprocessing
from consilium.system.installed import load

FUSED = "fused"
"""Name of the joint state among the features, beside those of the modalities."""

_OWN: Mapping[str, Dense] = MappingProxyType({})


@dataclass(frozen=True, slots=True, eq=False)
class Logits:
    """Uncalibrated logits of a batch.

    Attributes
    ----------
    fused : float [B, F]
    unimodal : dict of float [B, F]
        Of each modality's own head; meaningless where the modality is absent.
    present : dict of bool [B]
    features : dict of float [B, D of each]
        What the encoders and the fusion made of each study: see `DiagnosisModel.features`.
    steps : float [B, S] or None
        Log-odds of passing each step of the targets beside the findings, fused; None where there are none.
    """

    fused: Tensor
    unimodal: dict[str, Tensor]
    present: dict[str, Tensor]
    features: dict[str, Tensor]
    steps: Tensor | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Trace:
    """A forward pass that explanations can differentiate.

    Attributes
    ----------
    fused : float [B, F]
    entries : dict of str to Tensor
        What explanations differentiate, of each modality that is there: see `Encoder.traced`.
    """

    fused: Tensor
    entries: dict[str, Tensor]


def built_encoders(recipe: Recipe, preprocessing: Preprocessing, *, pretrained: bool) -> nn.ModuleDict:
    """The encoder of each modality of `recipe`, by name.

    Parameters
    ----------
    pretrained : bool
        Read the weights that the recipe names, pretrained encoders of `Preprocessing.starts`; False where they come
        from an artifact.

    Raises
    ------
    InputError
        Where the width cannot be shared by the heads, or weights do not fit.
    """
    fusion = recipe.fusion
    if fusion.width % fusion.heads and not fusion.linear:
        raise InputError("fusion.width", fusion.width, f"must be a multiple of fusion.heads ({fusion.heads})")
    encoders = nn.ModuleDict()
    for name, section in recipe.modalities.items():
        encoder: type[Encoder] = load(find_modality(name).encoder)
        encoders[name] = encoder.build(section, preprocessing.preparations[name], fusion, pretrained=pretrained)
        if not pretrained or section.weights is None:
            continue
        field = f"modalities.{name}.weights"
        if name in preprocessing.starts:
            preprocessing.starts[name].give(cast(Encoder, encoders[name]), field, section.weights)
        elif not section.reads_own_weights:
            rule = "must be a folder of pretrained encoders or models:/consilium-encoders-NAME@ALIAS"
            raise InputError(field, section.weights, rule)
    return encoders


class DiagnosisModel(nn.Module):
    """Encoders, fusion and heads of one recipe.

    Parameters
    ----------
    recipe : Recipe
    findings : FindingSet
    preprocessing : Preprocessing
        Fitted: what the encoders read depends on it.
    pretrained : bool
        Read the weights that the recipe names; False where they come from an artifact.
    """

    def __init__(
        self, recipe: Recipe, findings: FindingSet, preprocessing: Preprocessing, *, pretrained: bool = True
    ) -> None:
        super().__init__()
        fusion = recipe.fusion
        self.modalities = tuple(recipe.modalities)
        self.encoders = built_encoders(recipe, preprocessing, pretrained=pretrained)
        self.fusion = FUSIONS[fusion.name](fusion, self.modalities, len(findings) + len(findings.targets))
        self.head = FindingHead(self.fusion.state_width, len(findings))
        self.whitening = nn.ModuleDict()
        if fusion.linear:
            widths = {name: cast(Encoder, encoder).token_width(fusion) for name, encoder in self.encoders.items()}
            self.whitening.update({name: Whitening(width, fusion.width) for name, width in widths.items()})
        pool: Callable[[], nn.Module] = (
            MeanPool if fusion.linear else partial(AttentionPool, fusion.width, fusion.heads)
        )
        self.pools = nn.ModuleDict({m: pool() for m in self.modalities})
        self.heads = nn.ModuleDict({m: nn.Linear(fusion.width, len(findings)) for m in self.modalities})
        self.findings = len(findings)
        self.owners = [self.findings + owner for owner in step_owners(findings.targets)]
        # Last, so that everything else begins with the same weights whatever stands beside the findings.
        self.step_head = FindingHead(self.fusion.state_width, len(self.owners)) if self.owners else None

    def encode(self, batch: Batch, dense: Mapping[str, Dense] = _OWN) -> dict[str, Tokens]:
        """Tokens of every modality of the recipe; `dense` in place of the encoders' own of that name."""
        found = {
            name: encoder(batch.inputs[name], dense[name]) if name in dense else encoder(batch.inputs[name])
            for name, encoder in self.encoders.items()
        }
        return {name: self.read(name, tokens) for name, tokens in found.items()}

    def read(self, modality: str, tokens: Tokens) -> Tokens:
        """What everything behind the encoders reads of an encoder's `tokens`: a linear fusion, the whitened mean."""
        found: Tokens = self.whitening[modality](tokens) if modality in self.whitening else tokens
        return found

    def fuse(self, tokens: dict[str, Tokens]) -> Tensor:
        """Fused logits [B, F]; a modality without tokens is absent."""
        return self.answers(self.fusion(tokens))[:, : self.findings]

    def answers(self, states: Tensor) -> Tensor:
        """Fused logits of the findings, then of every step of the targets, [B, F + S], from the fusion's states."""
        if self.step_head is None:
            return self.head(states).float()
        own, of_steps = (states, states) if states.ndim == 2 else (states[:, : self.findings], states[:, self.owners])
        return torch.cat([self.head(own), self.step_head(of_steps)], dim=1).float()

    def steps(self, states: Tensor) -> Tensor | None:
        """Of `answers` those for the targets' steps, [B, S]; None where there are none."""
        return self.answers(states)[:, self.findings :] if self.owners else None

    def unimodal_logits(self, tokens: dict[str, Tokens]) -> dict[str, Tensor]:
        """Logits of each modality by its own head, [B, F] each."""
        return {
            modality: self.heads[modality](self.pools[modality](own.values, own.mask)).float()
            for modality, own in tokens.items()
        }

    def features(self, tokens: dict[str, Tokens], states: Tensor) -> dict[str, Tensor]:
        """One vector a study: of each encoder, under its modality's name, and ``fused``.

        Parameters
        ----------
        states : float [B, D] or [B, F, D], D as the fusion's `state_width`
            What the fusion made of `tokens`.

        Returns
        -------
        dict of str to float32 [B, ...]
            Mean and maximum over an encoder's tokens side by side, NaN where the modality is absent; the joint state.
        """
        found = {modality: own.summary() for modality, own in tokens.items()}
        return found | {FUSED: states.flatten(1).float()}

    def forward(self, batch: Batch) -> Logits:
        return self.conclude(self.encode(batch))

    def conclude(self, tokens: dict[str, Tokens]) -> Logits:
        """What follows from the tokens of every modality of the recipe."""
        states = self.fusion(tokens)
        present = {modality: own.present for modality, own in tokens.items()}
        fused, steps = self.answers(states)[:, : self.findings], self.steps(states)
        return Logits(fused, self.unimodal_logits(tokens), present, self.features(tokens, states), steps)

    def without(self, tokens: dict[str, Tokens], keep: dict[str, Tensor]) -> dict[str, Tokens]:
        """`tokens`, absent where `keep[modality]` (bool [B]) is False."""
        return {modality: own.keep(keep[modality]) for modality, own in tokens.items()}

    def subsets(self, tokens: dict[str, Tokens], chosen: Sequence[Subset] | None = None) -> dict[str, Tensor]:
        """`answers` [B, F + S] for every non-empty subset of the modalities, or those `chosen`, by `subset_key`.

        A row means something only where the study has every modality of the subset.
        """

        def fuse(own: dict[str, Tokens]) -> Tensor:
            return self.answers(self.fusion(own))

        fused = fuse_subsets(fuse, tokens, nonempty_subsets(self.modalities) if chosen is None else chosen)
        return {subset_key(subset): logits for subset, logits in fused.items()}

    def freeze_cache(self) -> None:
        """Compute what depends on the weights alone, once, in evaluation mode; they must not change afterwards."""
        for encoder in self.encoders.values():
            cast(Encoder, encoder).freeze_cache()

    def begin_epoch(self, epoch: int) -> None:
        """Get ready for the training epoch number `epoch`, from 0 on."""
        for encoder in self.encoders.values():
            cast(Encoder, encoder).begin_epoch(epoch)

    def end_training(self) -> None:
        """Take away what only the training needed; answers stay as they are."""
        for encoder in self.encoders.values():
            cast(Encoder, encoder).end_training()

    def parameter_counts(self) -> dict[str, dict[str, int]]:
        """How many weights are ``trained`` of ``all``, of each encoder and, as `FUSED`, of everything else."""
        inside = set(self.encoders.parameters())
        rest = nn.ParameterList(parameter for parameter in self.parameters() if parameter not in inside)
        return parameter_counts(dict(self.encoders.items()) | {FUSED: rest})

    def trace(self, batch: Batch) -> tuple[dict[str, Tokens], Trace]:
        """A forward pass with gradients down to what explanations differentiate."""
        traced = {name: cast(Encoder, encoder).traced(batch.inputs[name]) for name, encoder in self.encoders.items()}
        tokens = {name: self.read(name, found) for name, (found, _) in traced.items()}
        entries = {name: entry for name, (_, entry) in traced.items() if entry is not None}
        return tokens, Trace(self.fuse(tokens), entries)
