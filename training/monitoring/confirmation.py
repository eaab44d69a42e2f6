"""Who gets confirmed: delay of outcomes, and weights that undo that some are confirmed more often than others."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.special import logit
from sklearn.linear_model import LogisticRegression

from training.monitoring.answers import AnswerTable

Floats = npt.NDArray[np.float64]

DELAY_QUANTILE = 0.9
_LEAST_CHANCE = 0.05
"""No answer counts as more than twenty, however rarely answers like it are confirmed."""
_LEAST = 10
_CERTAIN = 1e-4


def delay_of_outcomes(answers: AnswerTable) -> float:
    """Seconds within which nine in ten of those outcomes came that came at all; NaN where none did.

    Of young answers only early outcomes can be there yet, so that it is too short while most answers are young.
    """
    delays = answers.known_at - answers.times[:, None]
    known = delays[~np.isnan(answers.labels)]
    return float(np.quantile(np.maximum(known, 0), DELAY_QUANTILE)) if len(known) else float("nan")


def confirmation_weights(
    answers: AnswerTable, finding: int, threshold: float, confirmed: npt.NDArray[np.bool_]
) -> Floats | None:
    """One over the chance that an answer is confirmed, [N], given its probability, call, referral and modalities.

    By logistic regression over all answers. It undoes a choice of whom to confirm that was made by what the answer
    showed; one that was made by what the answer did not show stays.

    Parameters
    ----------
    finding : int
        Whose probability counts.
    threshold : float
        From which it is called.
    confirmed : bool [N]

    Returns
    -------
    float [N] or None
        None where fewer than ten are confirmed, or fewer than ten are not.
    """
    if min(confirmed.sum(), (~confirmed).sum()) < _LEAST:
        return None
    odds = logit(np.clip(np.nan_to_num(answers.probabilities[:, finding], nan=0.5), _CERTAIN, 1 - _CERTAIN))
    called = answers.probabilities[:, finding] >= threshold
    seen = [odds, odds**2, called, answers.referred, *answers.present.values()]
    columns = np.stack(seen, axis=1).astype(np.float64)
    columns = (columns - columns.mean(axis=0)) / np.maximum(columns.std(axis=0), 1e-9)
    chance: Floats = LogisticRegression(max_iter=1000).fit(columns, confirmed).predict_proba(columns)[:, 1]
    return 1 / np.maximum(chance, _LEAST_CHANCE)
