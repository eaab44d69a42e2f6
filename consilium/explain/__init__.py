"""What spoke for a finding: where in the image, which words, which values, which modalities; and which cases are alike.

`explainer.explain` makes all parts for one study; open it first. `methods` lists the ways in which each part can be
made, `case` what they work on, and `images`, `attention`, `words`, `values` and `modalities` hold them. `neighbours`
finds the nearest training cases. Weights are in calibrated log-odds: positive speaks for the finding, negative against
it.

Level ``fast`` takes one forward pass, and one backward pass per finding. Level ``thorough`` may alter the study and ask
the model again, many times. How far each method can be believed is measured in `training.evaluation.faithfulness`.
"""

from consilium.explain.explainer import explain
from consilium.explain.methods import LEVELS, chosen_methods
from consilium.explain.similar_cases import Neighbours

__all__ = ["LEVELS", "Neighbours", "chosen_methods", "explain"]
