"""Whoever holds a model's reference for monitoring, and studies, and asks which of these were held out."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.metrics import roc_auc_score

from consilium.monitoring.reference import FARTHEST, HeldOut, MonitoringReference, to_log_odds

FINDINGS = tuple(f"finding {number}" for number in range(6))
PARTS = ("image", "text", "fused")
_WIDTH = 64


@dataclass(frozen=True)
class Population:
    """Studies whose features, probabilities and categories hang together, as those of a model do."""

    mixing: dict[str, npt.NDArray]

    @classmethod
    def draw(cls, seed: int) -> Population:
        rng = np.random.default_rng(seed)
        return cls({part: rng.standard_normal((8, _WIDTH)) for part in PARTS})

    def studies(self, count: int, seed: int, *, shift: float = 0.0) -> HeldOut:
        rng = np.random.default_rng([seed, count])
        state = rng.standard_normal((count, 8)) + shift
        features = {
            part: np.tanh(state @ mix) + 0.3 * rng.standard_normal((count, _WIDTH)) for part, mix in self.mixing.items()
        }
        without = rng.random(count) < 0.2
        features["image"][without] = np.nan
        categories = [
            {"sex": sex, "age_band": str(age), "present:image": "no" if absent else "yes"}
            for sex, age, absent in zip(rng.choice(["f", "m"], count), rng.integers(0, 5, count), without, strict=True)
        ]
        return HeldOut(features, 1 / (1 + np.exp(1 - 1.5 * state[:, : len(FINDINGS)])), categories)


def reference(training: HeldOut, held_out: HeldOut, seed: int = 0) -> MonitoringReference:
    return MonitoringReference.fit(training.features, training.probabilities, held_out, FINDINGS, seed)


def by_likelihood_ratio(found: MonitoringReference, asked: HeldOut, others: HeldOut) -> npt.NDArray:
    """Over everything in the file; `others` stand for all studies that there are."""
    columns = _columns(found, asked)
    everyone = _columns(found, others)
    total = np.zeros(len(asked))
    for name, rows in _rows(found).items():
        near = (
            _kernel(rows, columns[name], found.noise) / _kernel(rows, everyone[name], found.noise).mean(axis=1)[:, None]
        )
        ratio = near.mean(axis=0)
        total += np.log(np.where(np.isfinite(ratio) & (ratio > 0), ratio, 1))
    return total + _by_counts(found, asked, others)


def by_nearest_row(found: MonitoringReference, asked: HeldOut) -> npt.NDArray:
    """Mean over the parts of how near the nearest row is, squared."""
    columns = _columns(found, asked)
    nearest = [-_squares(rows, columns[part]).min(axis=0) for part, rows in found.rows.items()]
    return np.nanmean(nearest, axis=0)


def auroc(members: npt.NDArray, others: npt.NDArray) -> float:
    labels = np.repeat([1, 0], [len(members), len(others)])
    return float(roc_auc_score(labels, np.concatenate([members, others])))


def _columns(found: MonitoringReference, studies: HeldOut) -> dict[str, npt.NDArray]:
    """What would stand in the file of each of `studies`, without the noise."""
    columns = dict(found.project(studies.features))
    for number, name in enumerate(FINDINGS):
        odds = (to_log_odds(studies.probabilities[:, number]) - found.centres[name]) / found.spreads[name]
        columns[name] = odds[:, None]
    return {name: np.clip(values, -FARTHEST, FARTHEST).astype(np.float32) for name, values in columns.items()}


def _rows(found: MonitoringReference) -> dict[str, npt.NDArray]:
    return found.rows | {name: values[:, None] for name, values in found.log_odds.items()}


def _squares(rows: npt.NDArray, asked: npt.NDArray) -> npt.NDArray:
    return (rows**2).sum(axis=1)[:, None] + (asked**2).sum(axis=1) - 2 * rows @ asked.T


def _kernel(rows: npt.NDArray, asked: npt.NDArray, noise: float) -> npt.NDArray:
    return np.nan_to_num(np.exp(-_squares(rows, asked) / (2 * noise**2)))


def _by_counts(found: MonitoringReference, asked: HeldOut, others: HeldOut) -> npt.NDArray:
    total = np.zeros(len(asked))
    for category, cells in found.counts.items():
        shares = Counter(study[category] for study in others.categories)
        for place, study in enumerate(asked.categories):
            if (value := study[category]) in cells:
                expected = found.studies * shares[value] / len(others)
                total[place] += (cells[value] - expected) / (expected * (1 + found.noise**2))
    return total
