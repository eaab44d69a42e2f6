"""Tokens of each modality → the state that the findings are read from. One fusion a file; `FUSIONS` knows them by name.

Open `fusion.py` first: what a fusion takes and gives, and the head that reads it.
"""

from collections.abc import Callable

from consilium.fusion.bottleneck import BottleneckFusion
from consilium.fusion.concat import ConcatFusion
from consilium.fusion.cross_attention import CrossAttentionFusion
from consilium.fusion.early import EarlyFusion
from consilium.fusion.fusion import FindingHead, Fusion
from consilium.fusion.gated import GatedFusion
from consilium.fusion.late import LateFusion
from consilium.fusion.perceiver import PerceiverFusion
from consilium.recipe import FusionRecipe
from consilium.study import Modality

FUSIONS: dict[str, Callable[[FusionRecipe, tuple[Modality, ...], int], Fusion]] = {
    "late": LateFusion,
    "concat": ConcatFusion,
    "gated": GatedFusion,
    "cross_attention": CrossAttentionFusion,
    "bottleneck": BottleneckFusion,
    "perceiver": PerceiverFusion,
    "early": EarlyFusion,
}

__all__ = ["FUSIONS", "FindingHead", "Fusion"]
