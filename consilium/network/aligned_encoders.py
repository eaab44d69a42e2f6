"""AlignedEncoders: encoders without a fusion, and the space in which what they make of a study is compared.

What pretraining trains, and what similarity is measured with: zero-shot, retrieval, search.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from consilium.configuration.recipe import Recipe
from consilium.modalities.masked_attention import AttentionPool
from consilium.modalities.tokens import Tokens
from consilium.network.diagnosis_model import built_encoders
from consilium.preprocessing.batch import Batch
from consilium.preprocessing.collate import Preprocessing


class AlignedEncoders(nn.Module):
    """The encoders of a recipe, each with a pool and a projection into one space.

    Parameters
    ----------
    recipe : Recipe
    preprocessing : Preprocessing
        Fitted.
    pretrained : bool
        Read the weights that the recipe names; False where they come from an artifact.
    """

    def __init__(self, recipe: Recipe, preprocessing: Preprocessing, *, pretrained: bool = True) -> None:
        super().__init__()
        fusion = recipe.fusion
        self.modalities = tuple(recipe.modalities)
        self.encoders = built_encoders(recipe, preprocessing, pretrained=pretrained)
        self.pools = nn.ModuleDict({m: AttentionPool(fusion.width, fusion.heads) for m in self.modalities})
        width = recipe.pretraining.width
        self.projections = nn.ModuleDict({m: nn.Linear(fusion.width, width) for m in self.modalities})

    def parts(self, modality: str) -> tuple[nn.Module, ...]:
        """All that makes a place in the common space of a record of `modality`."""
        return self.encoders[modality], self.pools[modality], self.projections[modality]

    def encode(self, batch: Batch) -> dict[str, Tokens]:
        """Tokens of every modality of the recipe."""
        return {name: encoder(batch.inputs[name]) for name, encoder in self.encoders.items()}

    def embed(self, modality: str, tokens: Tokens) -> Tensor:
        """Where studies lie in the common space, float32 [B, E] of length 1; meaningless where the modality is absent.

        Parameters
        ----------
        tokens : Tokens
            That the encoder of `modality` made.
        """
        pooled = self.pools[modality](tokens.values, tokens.mask)
        return F.normalize(self.projections[modality](pooled).float(), dim=1)

    def places(self, tokens: dict[str, Tokens]) -> dict[str, Tensor]:
        """`embed` of every modality, float32 [B, E]; NaN where a study lacks it."""
        return {
            name: self.embed(name, own).masked_fill(~own.present[:, None], torch.nan) for name, own in tokens.items()
        }
