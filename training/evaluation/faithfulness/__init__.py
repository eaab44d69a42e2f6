"""How far each way of explaining can be believed, measured.

`measure.measure_faithfulness` walks studies through every method of `consilium.explain.methods` and scores the weights:

- against the model itself: `curves` deletes and inserts what was weighed highest, `checks` asks whether a model that
  has learned nothing would be explained alike, and whether a little noise changes the explanation;
- against the truth, where the cohort is a phantom: `truth` knows where evidence lies and renders counterfactual twins,
  the same study with one piece of evidence taken out; `localisation` compares places.

`table.summarise` makes one table of it, with intervals; `table.best_methods` says which method is to be the default.
"""

from training.evaluation.faithfulness.measure import measure_faithfulness
from training.evaluation.faithfulness.table import best_methods, measured_defaults

__all__ = ["best_methods", "measure_faithfulness", "measured_defaults"]
