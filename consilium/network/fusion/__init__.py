"""Tokens of each modality → the state that the findings are read from. One fusion a file; `FUSIONS` knows them by name.

Open `fusion.py` first: what a fusion takes and gives, and the head that reads it.
"""

from collections.abc import Callable

from consilium.configuration.recipe import FusionRecipe
from consilium.network.fusion.bottleneck import BottleneckFusion
from consilium.network.fusion.concat import ConcatFusion
from consilium.network.fusion.cross_attention import CrossAttentionFusion
from consilium.network.fusion.early import EarlyFusion
from consilium.network.fusion.fusion import FindingHead, Fusion
from consilium.network.fusion.gated import GatedFusion
from consilium.network.fusion.gated_cross_attention import GatedCrossAttentionFusion
from consilium.network.fusion.hierarchical import HierarchicalFusion
from consilium.network.fusion.late import LateFusion
from consilium.network.fusion.perceiver import PerceiverFusion
from consilium.network.fusion.stacked import StackedFusion

FUSIONS: dict[str, Callable[[FusionRecipe, tuple[str, ...], int], Fusion]] = {
    "late": LateFusion,
    "concat": ConcatFusion,
    "gated": GatedFusion,
    "cross_attention": CrossAttentionFusion,
    "bottleneck": BottleneckFusion,
    "perceiver": PerceiverFusion,
    "early": EarlyFusion,
    "gated_cross_attention": GatedCrossAttentionFusion,
    "hierarchical": HierarchicalFusion,
    "stacked": StackedFusion,
}

TRAINED_FUSIONS = tuple(name for name in FUSIONS if name != "stacked")
"""Those that are trained by gradient descent."""

__all__ = ["FUSIONS", "TRAINED_FUSIONS", "FindingHead", "Fusion"]
