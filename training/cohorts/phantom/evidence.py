"""Evidence: what each witness has to say, drawn from p(evidence | state) and nothing else.

Given the state, all channels are independent Gaussians of unit variance. The image has a channel per finding, the note
one per finding and confounder (it says only the grade), the values one per decisive variable (some are not measured).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from consilium.domain.errors import InputError
from consilium.modalities.registry import modality_names
from training.cohorts.phantom.state import MEMBERS, PRESENT, State
from training.cohorts.phantom.tables import table

IMAGE_CHANNELS: tuple[str, ...] = tuple(table("evidence")["image"])
TEXT_CHANNELS: tuple[str, ...] = tuple(table("evidence")["text"])
VARIABLE_CHANNELS: tuple[str, ...] = tuple(table("evidence")["observations"])
SPEAKS_FOR: dict[str, str] = {name: next(iter(row)) for name, row in table("evidence")["observations"].items()}
"""The finding that each decisive variable speaks for."""

GRADES = 7


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """One study's evidence, free of any nuisance.

    Attributes
    ----------
    image : float64 [len(IMAGE_CHANNELS)]
    text : float64 [len(TEXT_CHANNELS)]
        The note tells its grade only, see `EvidenceModel.grades`.
    observations : float64 [len(VARIABLE_CHANNELS)]
    measured : bool [len(VARIABLE_CHANNELS)]
        Values that were measured; the others are not in the record.
    modalities : frozenset of str
        Modalities that the record has at all.
    """

    image: npt.NDArray[np.float64]
    text: npt.NDArray[np.float64]
    observations: npt.NDArray[np.float64]
    measured: npt.NDArray[np.bool_]
    modalities: frozenset[str] = frozenset(modality_names())


def _means(rows: Mapping[str, Mapping[str, float]]) -> npt.NDArray[np.float64]:
    """Mean of each channel in each state, float64 [S, C]."""
    shifts = np.zeros((len(MEMBERS), len(rows)))
    for channel, row in enumerate(rows.values()):
        for member, shift in row.items():
            shifts[MEMBERS.index(member), channel] = shift
    return PRESENT @ shifts


def _summed(x: npt.NDArray[np.float64], weights: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """``x @ weights.T``, channel by channel: how BLAS rounds depends on the machine's threads, and bytes must not."""
    total = np.zeros((len(x), len(weights)))
    for channel in range(x.shape[1]):
        total += x[:, channel, None] * weights[None, :, channel]
    return total


def _below(threshold: float, mean: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """P(a unit Gaussian around each mean lies below the threshold)."""
    return np.array([0.5 * math.erfc((m - threshold) / math.sqrt(2)) for m in mean.ravel()]).reshape(mean.shape)


@dataclass(frozen=True, slots=True, eq=False)
class EvidenceModel:
    """p(evidence | state) of the whole record.

    Attributes
    ----------
    image_means, text_means, observation_means : float64 [S, C]
    thresholds : float64 [len(TEXT_CHANNELS), GRADES - 1]
    missing : float64 [S, len(VARIABLE_CHANNELS)]
        P(value not measured | state).
    missing_modality : dict of str to float
        P(whole modality missing), independent of the state.
    """

    image_means: npt.NDArray[np.float64]
    text_means: npt.NDArray[np.float64]
    observation_means: npt.NDArray[np.float64]
    thresholds: npt.NDArray[np.float64]
    missing: npt.NDArray[np.float64]
    missing_modality: dict[str, float]

    def draw(self, state: State, rng: np.random.Generator) -> Evidence:
        """Evidence of one study. At least one modality is kept."""
        s = state.index
        image = rng.normal(self.image_means[s])
        text = rng.normal(self.text_means[s])
        observations = rng.normal(self.observation_means[s])
        measured = rng.random(self.missing.shape[1]) >= self.missing[s]
        kept = {m for m in modality_names() if rng.random() >= self.missing_modality[m]}
        spare = list(modality_names())[int(rng.integers(len(modality_names())))]
        return Evidence(image, text, observations, measured, frozenset(kept or {spare}))

    def grades(self, text: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """Grade 0 … GRADES - 1 of each note channel; `text` is [..., len(TEXT_CHANNELS)]."""
        return (np.asarray(text)[..., None] > self.thresholds).sum(axis=-1)

    def image_log_likelihood(self, image: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Log p(image evidence | state) up to a constant, float64 [N, S]; `image` is [N, C]."""
        return _summed(image, self.image_means) - 0.5 * (self.image_means**2).sum(axis=1)

    def text_log_likelihood(self, grades: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """Log P(grades | state), float64 [N, S]; `grades` is [N, C]."""
        total = np.zeros((len(grades), len(PRESENT)))
        for channel in range(len(TEXT_CHANNELS)):
            means = self.text_means[:, channel]
            cumulative = np.stack(
                [np.zeros_like(means), *(_below(t, means) for t in self.thresholds[channel]), np.ones_like(means)]
            )
            total += np.log(np.diff(cumulative, axis=0))[grades[:, channel]]
        return total

    def observation_log_likelihood(
        self, observations: npt.NDArray[np.float64], measured: npt.NDArray[np.bool_]
    ) -> npt.NDArray[np.float64]:
        """Log p(measured values, which were measured | state) up to a constant, float64 [N, S]; both inputs [N, C]."""
        seen = np.where(measured, observations, 0.0)
        known = measured.astype(np.float64)
        values = _summed(seen, self.observation_means) - 0.5 * _summed(known, self.observation_means**2)
        return values + _summed(known, np.log(1 - self.missing)) + _summed(1 - known, np.log(self.missing))


def _missing_values(rates: Mapping[str, float]) -> npt.NDArray[np.float64]:
    missing = np.empty((len(PRESENT), len(VARIABLE_CHANNELS)))
    for channel, name in enumerate(VARIABLE_CHANNELS):
        present = PRESENT[:, MEMBERS.index(SPEAKS_FOR[name])]
        missing[:, channel] = np.where(present, rates["present"], rates["absent"])
    return missing


def load_evidence(
    missing_value: Mapping[str, float] | None = None, missing_modality: Mapping[str, float] | None = None
) -> EvidenceModel:
    """The stored distribution; `missing_value` and `missing_modality` replace the stored rates (a missingness shift).

    Raises
    ------
    InputError
        A rate that is not a probability below one, or an unknown key.
    """
    stored: dict[str, Any] = table("evidence")
    values = {**stored["missing_value"], **(missing_value or {})}
    modalities = {**stored["missing_modality"], **(missing_modality or {})}
    for field, rates, known in (
        ("missing_value", values, ("absent", "present")),
        ("missing_modality", modalities, modality_names()),
    ):
        for key, rate in rates.items():
            if key not in known:
                raise InputError(field, key, f"must be one of {', '.join(known)}")
            if not 0 <= rate < 1 or (field == "missing_value" and rate == 0):
                raise InputError(f"{field}[{key}]", rate, "must be a probability below 1, and above 0 for values")
    return EvidenceModel(
        image_means=_means(stored["image"]),
        text_means=_means(stored["text"]),
        observation_means=_means(stored["observations"]),
        thresholds=np.array([stored["grade_thresholds"][name] for name in TEXT_CHANNELS]),
        missing=_missing_values(values),
        missing_modality={m: modalities[m] for m in modality_names()},
    )
