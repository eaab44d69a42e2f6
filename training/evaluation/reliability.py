"""Reliability: predicted beside observed frequency, per finding and per modality subset."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pandas as pd

from consilium.calibration import percentile_interval
from consilium.domain.findings import FindingSet
from training.evaluation.comparisons import estimate_columns
from training.evaluation.metrics import Sample, equal_mass_bins
from training.evaluation.rows import Row


def reliability_table(findings: FindingSet, sample: Sample, rows: Mapping[Row, npt.NDArray]) -> pd.DataFrame:
    """Predicted and observed frequency in ten bins of equal mass, the latter with its 95 % interval by patient.

    Columns: row, finding, bin, n, predicted, observed, observed_low, observed_high.

    Parameters
    ----------
    rows : mapping of Row to float [N, F]
        Probabilities of each way of answering; NaN where there is none.
    """
    lines = []
    for row, probabilities in rows.items():
        for f, finding in enumerate(findings):
            known = ~np.isnan(sample.labels[:, f]) & ~np.isnan(probabilities[:, f])
            p, positive, weights = probabilities[known, f], sample.labels[known, f] == 1, sample.weights[:, known]
            numbers, inside = np.unique(equal_mass_bins(p), return_inverse=True)
            member = np.eye(len(numbers))[inside]
            with np.errstate(invalid="ignore"):
                observed = (weights @ (member * positive[:, None])) / (weights @ member)
            for place, number in enumerate(numbers.tolist()):
                line: dict[str, object] = {"row": row, "finding": finding.name, "bin": number}
                line |= {"n": int(member[:, place].sum()), "predicted": float(p[inside == place].mean())}
                lines.append(line | estimate_columns("observed", percentile_interval(observed[:, place])))
    return pd.DataFrame(lines)
