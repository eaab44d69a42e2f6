"""Tokens of each modality → one joint state per study, [B, D]. One fusion a file; `FUSIONS` knows them by name.

A fusion sees which modalities are absent by the masks alone. It must give a state for every non-empty subset.
"""

from collections.abc import Callable

from torch import nn

from consilium.fusion.concat import ConcatFusion
from consilium.fusion.cross_attention import CrossAttentionFusion
from consilium.fusion.late import LateFusion
from consilium.recipe import FusionRecipe
from consilium.study import Modality

FUSIONS: dict[str, Callable[[FusionRecipe, tuple[Modality, ...]], nn.Module]] = {
    "concat": ConcatFusion,
    "late": LateFusion,
    "cross_attention": CrossAttentionFusion,
}

__all__ = ["FUSIONS", "ConcatFusion", "CrossAttentionFusion", "LateFusion"]
