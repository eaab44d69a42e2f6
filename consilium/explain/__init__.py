"""The evidence for a finding: what each modality brought, and where in it; and which training cases are alike.

`explainer.explain` explains one study; open it first. Each modality declares how it is explained (`methods`); what its
methods work on is a `case`. `shapley` attributes the answer to the modalities, `similar_cases` finds the nearest
training cases. Weights are in calibrated log-odds: positive is evidence for the finding, negative against it.

Level ``fast`` takes one forward pass, and one backward pass per finding. Level ``thorough`` may alter the study and ask
the model again, many times. How far each method can be believed is measured in `training.evaluation.faithfulness`.
"""

from consilium.explain.explainer import explain
from consilium.explain.methods import LEVELS, chosen_methods
from consilium.explain.similar_cases import Neighbours

__all__ = ["LEVELS", "Neighbours", "chosen_methods", "explain"]
