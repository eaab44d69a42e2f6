"""Prevalence: how good probabilities are where findings are more or less frequent, adjusted to that or not."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from scipy.special import expit

from consilium.calibration import Calibration, patient_bootstrap, percentile_interval
from consilium.domain.findings import FindingSet
from training.evaluation.comparisons import MACRO, estimate_columns
from training.evaluation.metrics import Sample, interval, macro
from training.evaluation.predictions import Predictions


def prevalence_table(
    predictions: Predictions,
    calibration: Calibration,
    findings: FindingSet,
    prevalence: Mapping[str, float],
    *,
    bootstrap: int,
    seed: int,
) -> pd.DataFrame:
    """NLL and ECE of the answers from what each study has, as calibrated and ``adjusted`` to the prevalence.

    Columns: finding (also their mean), n, positives, calibrated_prevalence, given_prevalence, then nll, nll_adjusted,
    nll_difference (adjusted minus not; below 0 is better), ece, ece_adjusted, each with _low and _high, and
    ece_by_chance.

    Parameters
    ----------
    predictions : Predictions
        Of the place with that prevalence.
    prevalence : mapping of finding's name to float
        As `Calibration.at_prevalence`.

    Raises
    ------
    InputError
        For an unknown finding or a prevalence that cannot be.
    """
    adjusted = calibration.at_prevalence(prevalence)
    sample = Sample(predictions.labels, patient_bootstrap(predictions.patient_ids, bootstrap, seed))
    first, second = (
        sample.measure(predictions.as_present(predictions.probabilities(one))) for one in (calibration, adjusted)
    )
    names = [*findings.names, MACRO]
    assumed = [np.append(expit(one.prior_log_odds), np.nan) for one in (calibration, adjusted)]
    lines = []
    for place, (before, after) in enumerate(zip([*first, macro(first)], [*second, macro(second)], strict=True)):
        line: dict[str, object] = {"finding": names[place], "n": before.n, "positives": before.positives}
        line |= {"calibrated_prevalence": float(assumed[0][place]), "given_prevalence": float(assumed[1][place])}
        for name in ("nll", "ece"):
            line |= estimate_columns(name, interval(name, before.figures[name]))
            line |= estimate_columns(f"{name}_adjusted", interval(name, after.figures[name]))
        line |= estimate_columns("nll_difference", percentile_interval(after.figures["nll"] - before.figures["nll"]))
        line["ece_by_chance"] = float(after.figures["ece_by_chance"][0])
        lines.append(line)
    return pd.DataFrame(lines)
