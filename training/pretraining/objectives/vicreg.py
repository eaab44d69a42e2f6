"""VICReg: two records of a study agree, without any study being told apart from others (Bardes et al., ICLR 2022)."""

from __future__ import annotations

from torch import Tensor, nn

from consilium.configuration.recipe import Recipe
from consilium.modalities.pretraining.agreement import agreement_loss, expander
from training.pretraining.objectives.pretraining_objective import Pair, PairObjective, PretrainingStep, Summed


class VicReg(PairObjective):
    """On an expansion of each embedding, as the paper's expander."""

    def __init__(self, pairs: tuple[Pair, ...], recipe: Recipe) -> None:
        super().__init__(pairs, recipe)
        width = recipe.pretraining.width
        named = sorted({name for pair in pairs for name in pair})
        self.expanders = nn.ModuleDict({name: expander(width, width) for name in named})

    def compare(self, step: PretrainingStep, pair: Pair, rows: Tensor) -> Summed:
        one, other = (self.expanders[name](step.embeddings[name][rows]) for name in pair)
        return agreement_loss(one, other)
