"""Fusions compared on equal terms: a recipe and a cohort in, a `Comparison` out.

The encoders are trained once for each seed and their tokens of every study are kept; every fusion of
`consilium.network.fusion.TRAINED_FUSIONS` is trained on the same tokens, calibrated and scored on the same studies,
beside rules that learn nothing and models trained end to end. Open `experiment` first, which reads top-down; then
`contenders`.
"""

from training.experiments.fusion_comparison.comparison import Comparison
from training.experiments.fusion_comparison.comparison_output import save_comparison, terminal_tables
from training.experiments.fusion_comparison.experiment import Plan, compare_fusions

__all__ = ["Comparison", "Plan", "compare_fusions", "save_comparison", "terminal_tables"]
