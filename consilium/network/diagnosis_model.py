"""DiagnosisModel: encoders, a fusion, a head for the joint state and one for each modality alone.

The whole way from a Batch to logits. What becomes of logits is `consilium.calibration`'s business.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor, nn

from consilium.configuration.recipe import Recipe
from consilium.domain.errors import InputError
from consilium.domain.findings import FindingSet
from consilium.modalities.image.encoder import ImageEncoder
from consilium.modalities.observations.encoder import ObservationsEncoder
from consilium.modalities.registry import modality_names, nonempty_subsets, subset_key
from consilium.modalities.text.encoder import TextEncoder
from consilium.modalities.tokens import Dense, Tokens
from consilium.network.fusion import FUSIONS, FindingHead
from consilium.network.fusion.masked_attention import AttentionPool
from consilium.preprocessing.batch import Batch
from consilium.preprocessing.collate import Preprocessing

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
    image_map : float [n, C, h, w] or None
        The map that saliency is read from, for the n images of the batch.
    embeddings : float [B, L, E] or None
        Word embeddings.
    values : float [B, A, D] or None
        What each observed value adds to its token.
    """

    fused: Tensor
    image_map: Tensor | None
    embeddings: Tensor | None
    values: Tensor | None

    @property
    def entries(self) -> dict[str, Tensor]:
        """Per modality of the batch, the tensor that its trace begins from; of images the modules are watched."""
        found = {"text": self.embeddings, "observations": self.values}
        return {modality: tensor for modality, tensor in found.items() if tensor is not None}


class DiagnosisModel(nn.Module):
    """The council.

    Parameters
    ----------
    recipe : Recipe
    findings : FindingSet
    preprocessing : Preprocessing
        Says which observation features there are and which text model.
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
        self.modalities = tuple(modality for modality in modality_names() if modality in recipe.modalities)
        self.encoders = nn.ModuleDict()
        for modality in self.modalities:
            if modality == "image":
                encoder: nn.Module = ImageEncoder(recipe.image, fusion.width, pretrained=pretrained)
            elif modality == "text":
                assert preprocessing.text_config is not None
                encoder = TextEncoder(recipe.text, preprocessing.text_config, fusion.width, pretrained=pretrained)
            else:
                features = preprocessing.features
                encoder = ObservationsEncoder(recipe.observations, features, fusion.width, fusion.heads, fusion.dropout)
            self.encoders[modality] = encoder
        self.fusion = FUSIONS[fusion.name](fusion, self.modalities, len(findings))
        self.head = FindingHead(fusion.width, len(findings))
        self.pools = nn.ModuleDict({m: AttentionPool(fusion.width, fusion.heads) for m in self.modalities})
        self.heads = nn.ModuleDict({m: nn.Linear(fusion.width, len(findings)) for m in self.modalities})

    def encode(self, batch: Batch, dense: Mapping[str, Dense] = _OWN) -> dict[str, Tokens]:
        """Tokens of every modality of the recipe; `dense` in place of the encoders' own of that name."""
        return self._encode(batch, dense)[0]

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

    def subsets(self, tokens: dict[str, Tokens]) -> dict[str, Tensor]:
        """Fused logits [B, F] for every non-empty subset of the modalities: encoded once, fused many times.

        A row means something only where the study has every modality of the subset.
        """
        found = {}
        for subset in nonempty_subsets(self.modalities):
            keep = {m: torch.full_like(said.present, m in subset) for m, said in tokens.items()}
            found[subset_key(subset)] = self.fuse(self.without(tokens, keep))
        return found

    def settle(self) -> None:
        """Work out what hangs on the weights alone, once, in evaluation mode: they must not change any more."""
        for encoder in self.encoders.values():
            if isinstance(encoder, ImageEncoder):
                encoder.settle()

    def trace(self, batch: Batch) -> tuple[dict[str, Tokens], Trace]:
        """A forward pass with gradients down to the image map, the word embeddings and the observed values."""
        tokens, image_map, embeddings, values = self._encode(batch, traced=True)
        return tokens, Trace(self.fuse(tokens), image_map, embeddings, values)

    def _encode(
        self, batch: Batch, dense: Mapping[str, Dense] = _OWN, *, traced: bool = False
    ) -> tuple[dict[str, Tokens], Tensor | None, Tensor | None, Tensor | None]:
        tokens: dict[str, Tokens] = {}
        image_map = embeddings = values = None
        for name, encoder in self.encoders.items():
            modality = name
            if isinstance(encoder, ImageEncoder):
                seen = (batch.images, batch.image_mask, batch.views)
                if traced:
                    tokens[modality], image_map = encoder.with_map(*seen)
                else:
                    tokens[modality] = encoder(*seen, dense.get(modality))
            elif isinstance(encoder, TextEncoder):
                if traced and batch.text_mask.any():
                    embeddings = encoder.embed(batch.input_ids).detach().requires_grad_()
                tokens[modality] = encoder(batch.input_ids, batch.text_mask, embeddings, dense.get(modality))
            elif isinstance(encoder, ObservationsEncoder):
                observed = (batch.observations, batch.observation_codes)
                if traced and batch.observation_mask.any():
                    values = encoder.values(*observed).detach().requires_grad_()
                tokens[modality] = encoder(*observed, batch.observation_mask, values)
        return tokens, image_map, embeddings, values
