"""Inputs out of distribution: what a model must notice before it answers.

Ordinary studies of a cohort with one modality altered go the same way as those that a hospital sends: through
ingest, preprocessing and model. Open `kinds` first: it lists what is made of a study; `detection` measures.
"""

from training.evaluation.out_of_distribution.detection import ORDINARY, evaluate_out_of_distribution
from training.evaluation.out_of_distribution.kinds import Case, Kind, all_kinds

__all__ = ["ORDINARY", "Case", "Kind", "all_kinds", "evaluate_out_of_distribution"]
