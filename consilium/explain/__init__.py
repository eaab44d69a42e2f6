"""What spoke for a finding: where in the image, which words, which values, which modalities.

`explainer.explain` walks through all four for one study; open it first. Weights are in calibrated log-odds: positive
speaks for the finding, negative against it.

Level ``fast`` takes one forward and one backward pass per finding. Level ``thorough`` leaves words and values out one
by one instead, in one batch.
"""

from consilium.explain.explainer import LEVELS, explain

__all__ = ["LEVELS", "explain"]
