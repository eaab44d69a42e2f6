"""Few-shot: what a few labelled studies are worth on top of frozen features.

Two ways that choose nothing: a linear probe (logistic regression of fixed strength on standardised features) and
prototypes (the mean place of either class in the common space; Snell et al., NeurIPS 2017). Every number of studies is
drawn several times.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from training.cohorts.cohort import Cohort
from training.cohorts.cohort_kind import Oracle
from training.evaluation.comparisons import MACRO
from training.pretraining.embeddings import Embeddings, Floats

SHOTS = (1, 2, 4, 8, 16, 32, 64)
"""Labelled studies of either class."""
LABELLED = (30, 100, 300, 1000, 3000)
"""Labelled studies as they come."""
_DRAWS = 10
_STRENGTH = 0.05
"""Inverse of the probe's regularisation; fixed, since a choice would need labels of its own."""
LINEAR, PROTOTYPES = "linear probe", "prototypes"

Scores = npt.NDArray[np.float64]


def _linear(features: Floats, labels: npt.NDArray, asked: Floats) -> Scores:
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=_STRENGTH, max_iter=1000))
    return np.asarray(probe.fit(features, labels).decision_function(asked), np.float64)


def _prototypes(places: Floats, labels: npt.NDArray, asked: Floats) -> Scores:
    centre = places[labels == 1].mean(axis=0) - places[labels == 0].mean(axis=0)
    return np.asarray(asked @ centre, np.float64)


@dataclass(frozen=True, slots=True, eq=False)
class _Question:
    """One finding from one modality.

    Attributes
    ----------
    features, places : (float [n, D], float [m, D])
        Of the studies that may be learned from, and of those that are asked about.
    labels : float [n]
    truth : float [m]
    """

    features: tuple[Floats, Floats]
    places: tuple[Floats, Floats]
    labels: npt.NDArray[np.float32]
    truth: npt.NDArray[np.float32]

    def auroc(self, method: str, chosen: npt.NDArray[np.int64]) -> float:
        """From the labels of the studies `chosen`, which have both classes."""
        inputs, way = (self.features, _linear) if method == LINEAR else (self.places, _prototypes)
        return float(roc_auc_score(self.truth, way(inputs[0][chosen], self.labels[chosen], inputs[1])))


def few_shot(cohort: Cohort, train: Embeddings, test: Embeddings, oracle: Oracle | None, seed: int) -> pd.DataFrame:
    """AUROC on `test` from a few labels of `train`.

    Returns
    -------
    DataFrame
        One row a modality, method, number of studies of either class (``shots``) and finding, then the mean over
        findings: ``auroc`` and its standard deviation ``sd`` over the draws, ``possible_auroc`` and ``share``.
    """

    def drawn(question: _Question, shots: int, rng: np.random.Generator) -> npt.NDArray[np.int64] | None:
        sides = [np.flatnonzero(question.labels == side) for side in (0, 1)]
        if min(map(len, sides)) < shots:
            return None
        return np.concatenate([rng.choice(side, shots, replace=False) for side in sides])

    return _curve(cohort, train, test, oracle, seed, "shots", SHOTS, drawn)


def label_efficiency(
    cohort: Cohort, train: Embeddings, test: Embeddings, oracle: Oracle | None, seed: int
) -> pd.DataFrame:
    """As `few_shot`, from numbers of studies (``labelled``) that are drawn as they come."""

    def drawn(question: _Question, count: int, rng: np.random.Generator) -> npt.NDArray[np.int64] | None:
        if len(question.labels) < count:
            return None
        chosen = rng.choice(len(question.labels), count, replace=False)
        return chosen if len(np.unique(question.labels[chosen])) == 2 else None

    return _curve(cohort, train, test, oracle, seed, "labelled", LABELLED, drawn)


def _curve(
    cohort: Cohort,
    train: Embeddings,
    test: Embeddings,
    oracle: Oracle | None,
    seed: int,
    column: str,
    numbers: Sequence[int],
    draw: Callable[[_Question, int, np.random.Generator], npt.NDArray[np.int64] | None],
) -> pd.DataFrame:
    lines: list[dict[str, Any]] = []
    for modality in test.places:
        questions = _questions(cohort, train, test, modality)
        possible = _possible(cohort, test, oracle, modality, questions)
        for number in numbers:
            found: dict[str, dict[str, list[float]]] = {LINEAR: {}, PROTOTYPES: {}}
            for name, question in questions.items():
                for repetition in range(_DRAWS):
                    chosen = draw(question, number, np.random.default_rng((seed, number, repetition)))
                    if chosen is None:
                        continue
                    for method, reached in found.items():
                        reached.setdefault(name, []).append(question.auroc(method, chosen))
            for method, reached in found.items():
                key = {"modality": modality, "method": method, column: number}
                lines += [key | line for line in _lines(reached, possible)]
    return pd.DataFrame(lines)


def _questions(cohort: Cohort, train: Embeddings, test: Embeddings, modality: str) -> dict[str, _Question]:
    """Of each finding of which there are studies of both classes to ask about."""
    found = {}
    sides = [(one, one.present(modality)) for one in (train, test)]
    for position, name in enumerate(cohort.findings.names):
        labels = [cohort.labels[one.rows[there], position] for one, there in sides]
        known = [np.isfinite(one) for one in labels]
        if len(np.unique(labels[1][known[1]])) < 2:
            continue
        features, places = (
            tuple(getattr(one, kind)[modality][there][has] for (one, there), has in zip(sides, known, strict=True))
            for kind in ("features", "places")
        )
        found[name] = _Question(features, places, labels[0][known[0]], labels[1][known[1]])
    return found


def _possible(
    cohort: Cohort, test: Embeddings, oracle: Oracle | None, modality: str, questions: Mapping[str, _Question]
) -> dict[str, float]:
    """AUROC of the best possible answers to the same studies."""
    if oracle is None or modality not in oracle.posteriors:
        return {}
    place = {study: row for row, study in enumerate(np.asarray(oracle.study_ids).tolist())}
    posteriors = oracle.posteriors[modality]
    there = test.rows[test.present(modality)]
    found = {}
    for name in questions:
        position = cohort.findings.index(name)
        known = there[np.isfinite(cohort.labels[there, position])]
        best = posteriors[[place[cohort.records[row].study_id] for row in known.tolist()], position]
        found[name] = float(roc_auc_score(cohort.labels[known, position], best))
    return found


def _lines(reached: Mapping[str, list[float]], possible: Mapping[str, float]) -> list[dict[str, Any]]:
    if not reached:
        return []
    lines = [_line(name, np.array(values), possible.get(name)) for name, values in reached.items()]
    draws = min(map(len, reached.values()))
    means = np.mean([values[:draws] for values in reached.values()], axis=0)
    best = [possible[name] for name in reached if name in possible]
    return [*lines, _line(MACRO, means, float(np.mean(best)) if best else None)]


def _line(name: str, values: npt.NDArray[np.float64], possible: float | None) -> dict[str, Any]:
    auroc = float(values.mean())
    line: dict[str, Any] = {
        "finding": name,
        "auroc": auroc,
        "sd": float(values.std(ddof=1)) if len(values) > 1 else 0.0,
    }
    if possible is not None:
        line |= {"possible_auroc": possible, "share": (auroc - 0.5) / (possible - 0.5)}
    return line
