"""How good a model is: metrics, comparisons, coverage, subgroups, out-of-distribution detection, faithfulness.

Open `evaluate` first; `results` holds what comes out.
"""
