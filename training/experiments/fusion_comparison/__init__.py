"""A fair fight between fusions: a recipe and a cohort in, a `Comparison` out.

The encoders are trained once for each seed and what they say of every study is kept; every fusion of
`consilium.network.fusion.FUSIONS` is trained on the same tokens, calibrated and judged on the same studies, beside
rules that learn nothing and beside models trained end to end. Open `run.py` first, which reads top-down; then
`judging.py`.
"""

from training.experiments.fusion_comparison.comparison import Comparison, terminal_tables
from training.experiments.fusion_comparison.experiment import Plan, compare_fusions

__all__ = ["Comparison", "Plan", "compare_fusions", "terminal_tables"]
