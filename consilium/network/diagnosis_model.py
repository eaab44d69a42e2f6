"""DiagnosisModel: encoders, a fusion, a head for the joint state and one for each modality alone.

The whole way from a Batch to logits. What becomes of logits is `consilium.calibration`'s business.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import cast

from torch import Tensor, nn

from consilium.configuration.recipe import Recipe
from consilium.domain.errors import InputError
from consilium.domain.findings import FindingSet
from consilium.modalities.registry import find_modality, nonempty_subsets, subset_key
from consilium.modalities.tokens import Dense, Encoder, Tokens
from consilium.network.fusion import FUSIONS, FindingHead
from consilium.network.fusion.masked_attention import AttentionPool
from consilium.network.subsets import Subset, fuse_subsets
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
    opinions : dict of float [B, F]
        Of each modality's own head; meaningless where the modality is absent.
    present : dict of bool [B]
    features : dict of float [B, D of each]
        What the encoders and the fusion made of each study: see `DiagnosisModel.features`.
    """

    fused: Tensor
    opinions: dict[str, Tensor]
    present: dict[str, Tensor]
    features: dict[str, Tensor]


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


class DiagnosisModel(nn.Module):
    """The council.

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
        if fusion.width % fusion.heads:
            raise InputError("fusion.width", fusion.width, f"must be a multiple of fusion.heads ({fusion.heads})")
        self.modalities = tuple(recipe.modalities)
        self.encoders = nn.ModuleDict()
        for name in self.modalities:
            encoder: type[Encoder] = load(find_modality(name).encoder)
            preparation = preprocessing.preparations[name]
            self.encoders[name] = encoder.build(recipe.modalities[name], preparation, fusion, pretrained=pretrained)
        self.fusion = FUSIONS[fusion.name](fusion, self.modalities, len(findings))
        self.head = FindingHead(fusion.width, len(findings))
        self.pools = nn.ModuleDict({m: AttentionPool(fusion.width, fusion.heads) for m in self.modalities})
        self.heads = nn.ModuleDict({m: nn.Linear(fusion.width, len(findings)) for m in self.modalities})

    def encode(self, batch: Batch, dense: Mapping[str, Dense] = _OWN) -> dict[str, Tokens]:
        """Tokens of every modality of the recipe; `dense` in place of the encoders' own of that name."""
        return {
            name: encoder(batch.inputs[name], dense[name]) if name in dense else encoder(batch.inputs[name])
            for name, encoder in self.encoders.items()
        }

    def fuse(self, tokens: dict[str, Tokens]) -> Tensor:
        """Fused logits [B, F]; a modality without tokens is absent."""
        return self.head(self.fusion(tokens)).float()

    def opinions(self, tokens: dict[str, Tokens]) -> dict[str, Tensor]:
        """What each modality says alone, [B, F] each."""
        return {
            modality: self.heads[modality](self.pools[modality](said.values, said.mask)).float()
            for modality, said in tokens.items()
        }

    def features(self, tokens: dict[str, Tokens], states: Tensor) -> dict[str, Tensor]:
        """One vector a study: of each encoder, under its modality's name, and ``fused``.

        Parameters
        ----------
        states : float [B, D] or [B, F, D]
            What the fusion made of `tokens`.

        Returns
        -------
        dict of str to float32 [B, ...]
            Mean and maximum over an encoder's tokens side by side, NaN where the modality is absent; the joint state.
        """
        found = {modality: said.summary() for modality, said in tokens.items()}
        return found | {FUSED: states.flatten(1).float()}

    def forward(self, batch: Batch) -> Logits:
        return self.conclude(self.encode(batch))

    def conclude(self, tokens: dict[str, Tokens]) -> Logits:
        """What follows from the tokens of every modality of the recipe."""
        states = self.fusion(tokens)
        present = {modality: said.present for modality, said in tokens.items()}
        fused = self.head(states).float()
        return Logits(fused, self.opinions(tokens), present, self.features(tokens, states))

    def without(self, tokens: dict[str, Tokens], keep: dict[str, Tensor]) -> dict[str, Tokens]:
        """`tokens`, absent where `keep[modality]` (bool [B]) is False."""
        return {modality: said.keep(keep[modality]) for modality, said in tokens.items()}

    def subsets(self, tokens: dict[str, Tokens], chosen: Sequence[Subset] | None = None) -> dict[str, Tensor]:
        """Fused logits [B, F] for every non-empty subset of the modalities, or those `chosen`, by `subset_key`.

        A row means something only where the study has every modality of the subset.
        """
        fused = fuse_subsets(self.fuse, tokens, nonempty_subsets(self.modalities) if chosen is None else chosen)
        return {subset_key(subset): logits for subset, logits in fused.items()}

    def freeze_cache(self) -> None:
        """Compute what depends on the weights alone, once, in evaluation mode; they must not change afterwards."""
        for encoder in self.encoders.values():
            cast(Encoder, encoder).freeze_cache()

    def trace(self, batch: Batch) -> tuple[dict[str, Tokens], Trace]:
        """A forward pass with gradients down to what explanations differentiate."""
        traced = {name: cast(Encoder, encoder).traced(batch.inputs[name]) for name, encoder in self.encoders.items()}
        tokens = {name: found for name, (found, _) in traced.items()}
        entries = {name: entry for name, (_, entry) in traced.items() if entry is not None}
        return tokens, Trace(self.fuse(tokens), entries)
