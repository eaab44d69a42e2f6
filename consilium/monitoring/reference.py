"""What studies look like that the model never learned from, to compare those in service with.

It holds, of the N held-out studies of one training (calibration and test, or out of fold; never those learned from):

- per part, each modality and ``fused``, the encoder's pooled features in `DIRECTIONS` random directions,
- per finding, the log-odds of the calibrated probability,
- counts by category: sex, age band, units, and which modalities were there.

Out-of-distribution p-values need no reference: over studies like those of the calibration they are uniform.

**What it tells of a patient.** Nothing can be read back: `DIRECTIONS` figures leave D - `DIRECTIONS` of the D features
of a part undetermined, and features are means and maxima over all that a study holds, without pixels or words. What
could be learned is that a study, which someone has, was among the N. So every figure carries normal noise of `noise`
standard deviations, outlying figures are drawn in to `FARTHEST`, each column is in an order of its own, so that no row
is a study, and rare categories are one. `noise` is the least with which the best attack there is, the likelihood ratio
over everything in the file, tells members from other studies with an AUROC of at most .5 + `ADVANTAGE`: m independent
figures of N studies give it (m / N) ** .5 standard deviations (Sankararaman et al., Nature Genetics 41, 2009), and a
figure in k directions under noise s counts as (1 + 1 / s²) ** k - 1. Few studies therefore need much noise, and say
little: as much as `weight` studies without noise.

What is compared with it must carry the same noise: `noisy_projections`, `noisy_log_odds`. Of studies alike the two are
then samples of one distribution, whatever `noise` is.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load_file, save_file

from consilium.domain.errors import InputError

Floats = npt.NDArray[np.float64]

DIRECTIONS = 4
"""Of each part."""
FARTHEST = 3.0
"""Standard deviations beyond which a figure counts as being so far."""
ADVANTAGE = 0.015
"""Above .5, the AUROC of an attack on membership."""
OTHER = "other"
"""Stands for all values of a category that too few studies have."""

_LEAST_COUNT = 5
_CERTAIN = 1e-6
_FORMAT = 1
_TENSORS, _NAMES = "reference.safetensors", "reference.json"


@dataclass(frozen=True, slots=True, eq=False)
class Projection:
    """Features of one part → figures with mean 0 and standard deviation 1 over the training studies.

    Attributes
    ----------
    weights : float32 [D, k]
    offset : float32 [k]
    """

    weights: npt.NDArray[np.float32]
    offset: npt.NDArray[np.float32]

    @classmethod
    def fit(cls, features: npt.NDArray, generator: np.random.Generator) -> Projection:
        """Random directions through standardised `features` [N, D] of training studies; rows of NaN are left out."""
        known = np.asarray(features[np.isfinite(features).all(axis=1)], np.float64)
        if not len(known):
            raise InputError("monitoring.features", 0, "must be of at least one study")
        spread = known.std(axis=0)
        varies = spread > 1e-6 * max(1.0, float(np.abs(known).max()))
        directions = generator.standard_normal((known.shape[1], DIRECTIONS))
        weights = np.where(varies[:, None], directions / np.where(varies, spread, 1)[:, None], 0)
        projected = known @ weights
        weights /= np.maximum(projected.std(axis=0), 1e-9)
        return cls(weights.astype(np.float32), (known.mean(axis=0) @ weights).astype(np.float32))

    def __call__(self, features: npt.NDArray) -> npt.NDArray[np.float32]:
        """`features` [B, D] in the directions, float32 [B, k]; NaN where they are."""
        found: npt.NDArray[np.float32] = np.asarray(features, np.float32) @ self.weights - self.offset
        return found


@dataclass(frozen=True, slots=True, eq=False)
class HeldOut:
    """N studies that the model has not learned from.

    Attributes
    ----------
    features : mapping of str to float [N, D of each]
        By part; rows of NaN where the study lacks it. Empty where they are those of other models: out of fold.
    probabilities : float [N, F]
        Calibrated, from all that a study has.
    categories : sequence of mapping, [N]
        What each study is grouped by.
    """

    features: Mapping[str, npt.NDArray]
    probabilities: npt.NDArray
    categories: Sequence[Mapping[str, str]]

    def __len__(self) -> int:
        return len(self.probabilities)


@dataclass(frozen=True, slots=True, eq=False)
class MonitoringReference:
    """What studies in service are compared with.

    Attributes
    ----------
    studies : int
        N, held out.
    noise : float
        Standard deviation of the noise, in units of each figure's own.
    projections : dict of str to Projection
        By part: each modality that the model reads, and ``fused``.
    rows : dict of str to float32 [n, k]
        By part, noisy projections of the held-out studies that have it, in an order of its own. Empty where the model
        was evaluated out of fold, by other models than itself: then there are no such studies.
    centres, spreads : dict of str to float
        By finding, of the log-odds over the training studies, to one decimal.
    log_odds : dict of str to float32 [N]
        By finding, noisy, in `spreads` from `centres`, in an order of its own.
    counts : dict of str to dict of str to float
        By category and value, noisy, of the held-out studies. ``present:<modality>`` has ``yes`` and ``no``; a category
        that only some studies have, as ``unit:crp``, counts those.
    """

    studies: int
    noise: float
    projections: dict[str, Projection]
    rows: dict[str, npt.NDArray[np.float32]]
    centres: dict[str, float]
    spreads: dict[str, float]
    log_odds: dict[str, npt.NDArray[np.float32]]
    counts: dict[str, dict[str, float]]

    @classmethod
    def fit(
        cls,
        features: Mapping[str, npt.NDArray],
        probabilities: npt.NDArray,
        held_out: HeldOut,
        findings: Sequence[str],
        seed: int,
    ) -> MonitoringReference:
        """Directions and scales from training studies, everything else from studies held out.

        Parameters
        ----------
        features : mapping of str to float [M, D of each]
            Of the training studies, by part.
        probabilities : float [M, F]
            Calibrated, of the training studies.
        held_out : HeldOut
        findings : sequence of str, [F]
        seed : int
        """
        generator = np.random.default_rng(seed)
        projections = {part: Projection.fit(values, generator) for part, values in features.items()}
        known = to_log_odds(probabilities[np.isfinite(probabilities).all(axis=1)])
        centres = dict(zip(findings, known.mean(axis=0).round(1).tolist(), strict=True))
        spreads = dict(zip(findings, np.maximum(known.std(axis=0).round(1), 0.1).tolist(), strict=True))
        rows = {part: _known(projections[part](values)) for part, values in held_out.features.items()}
        counted = _counted(held_out.categories)
        sizes = [(len(values), DIRECTIONS) for values in rows.values()] + [(len(held_out), 1)] * len(findings)
        noise = least_noise(sizes, [(sum(cells.values()), len(cells) - 1) for cells in counted.values()])
        empty = cls(len(held_out), noise, projections, {}, centres, spreads, {}, {})
        noisy = {part: empty.noisy_projections(values, generator) for part, values in rows.items()}
        odds = {
            name: empty.noisy_log_odds(name, held_out.probabilities[:, number], generator)
            for number, name in enumerate(findings)
        }
        counts = {category: _noisy_counts(cells, noise, generator) for category, cells in sorted(counted.items())}
        shuffled = {part: generator.permutation(values) for part, values in noisy.items()}
        shuffled_odds = {name: generator.permutation(values) for name, values in odds.items()}
        return cls(len(held_out), noise, projections, shuffled, centres, spreads, shuffled_odds, counts)

    @property
    def weight(self) -> float:
        """So many studies without noise say as much about a mean."""
        return self.studies / (1 + self.noise**2)

    def project(self, features: Mapping[str, npt.NDArray]) -> dict[str, npt.NDArray[np.float32]]:
        """`features` [B, D of each] of each part in its directions, float32 [B, k] without noise; NaN where absent."""
        return {part: projection(features[part]) for part, projection in self.projections.items()}

    def noisy_projections(self, values: npt.NDArray, generator: np.random.Generator) -> npt.NDArray[np.float32]:
        """Projections [B, k], as `project` gives them, comparable with `rows`."""
        return self._noisy(np.asarray(values, np.float64), generator)

    def noisy_log_odds(
        self, finding: str, probabilities: npt.NDArray, generator: np.random.Generator
    ) -> npt.NDArray[np.float32]:
        """Calibrated `probabilities` [B] of `finding`, comparable with `log_odds`."""
        odds = (to_log_odds(np.asarray(probabilities)) - self.centres[finding]) / self.spreads[finding]
        return self._noisy(odds, generator)

    def _noisy(self, values: Floats, generator: np.random.Generator) -> npt.NDArray[np.float32]:
        drawn_in = np.clip(values, -FARTHEST, FARTHEST)
        return (drawn_in + self.noise * generator.standard_normal(values.shape)).astype(np.float32)

    # --- in the artifact ---------------------------------------------------------------------------------------------

    def save(self, folder: Path) -> None:
        """Write figures as safetensors and everything else as JSON into `folder`."""
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {f"weights/{part}": one.weights for part, one in self.projections.items()}
        tensors |= {f"offset/{part}": one.offset for part, one in self.projections.items()}
        tensors |= {f"rows/{part}": values for part, values in self.rows.items()}
        tensors |= {f"log_odds/{finding}": values for finding, values in self.log_odds.items()}
        save_file({name: np.ascontiguousarray(values) for name, values in tensors.items()}, folder / _TENSORS)
        facts = {
            "format": _FORMAT,
            "studies": self.studies,
            "noise": self.noise,
            "centres": self.centres,
            "spreads": self.spreads,
            "counts": self.counts,
        }
        (folder / _NAMES).write_text(json.dumps(facts, indent=1, sort_keys=True) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> MonitoringReference:
        """Read what `save` wrote.

        Raises
        ------
        ValueError, KeyError
            Where it is something else.
        """
        facts = json.loads((folder / _NAMES).read_bytes())
        if facts["format"] != _FORMAT:
            raise ValueError(f"got format {facts['format']!r}, must be {_FORMAT}")
        tensors = load_file(folder / _TENSORS)
        if not all(np.isfinite(values).all() for values in tensors.values()):
            raise ValueError("every figure must be finite")

        def under(kind: str) -> dict[str, npt.NDArray]:
            return {name.removeprefix(kind): v for name, v in sorted(tensors.items()) if name.startswith(kind)}

        weights, offsets = under("weights/"), under("offset/")
        return cls(
            studies=int(facts["studies"]),
            noise=float(facts["noise"]),
            projections={part: Projection(weights[part], offsets[part]) for part in weights},
            rows=under("rows/"),
            centres=dict(facts["centres"]),
            spreads=dict(facts["spreads"]),
            log_odds=under("log_odds/"),
            counts=dict(facts["counts"]),
        )


def to_log_odds(probabilities: npt.NDArray) -> Floats:
    """Natural logarithm of p / (1 - p), finite for certain answers, too."""
    inside = np.clip(np.asarray(probabilities, np.float64), _CERTAIN, 1 - _CERTAIN)
    found: Floats = np.log(inside / (1 - inside))
    return found


def least_noise(columns: Sequence[tuple[int, int]], counts: Sequence[tuple[int, int]]) -> float:
    """The noise that a reference needs.

    Parameters
    ----------
    columns : sequence of (studies, directions)
        Of each table of figures.
    counts : sequence of (studies, degrees of freedom)
        Of each category.
    """
    allowed = 2 * NormalDist().inv_cdf(0.5 + ADVANTAGE) ** 2
    low, high = 0.0, 1e6
    for _ in range(100):
        middle = (low * high) ** 0.5 if low else high / 2
        low, high = (middle, high) if _exposure(middle, columns, counts) > allowed else (low, middle)
    return high


def _exposure(noise: float, columns: Iterable[tuple[int, int]], counts: Iterable[tuple[int, int]]) -> float:
    """Square of the distance, in standard deviations, between an attack's statistic of members and of others."""
    figures = sum(((1 + noise**-2) ** directions - 1) / studies for studies, directions in columns if studies)
    return figures + sum(freedom / ((1 + noise**2) * studies) for studies, freedom in counts if studies)


def _known(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    found: npt.NDArray[np.float32] = values[np.isfinite(values).all(axis=1)]
    return found


def _counted(categories: Iterable[Mapping[str, str]]) -> dict[str, Counter[str]]:
    found: dict[str, Counter[str]] = {}
    for study in categories:
        for category, value in study.items():
            found.setdefault(category, Counter())[value] += 1
    return found


def _noisy_counts(cells: Mapping[str, int], noise: float, generator: np.random.Generator) -> dict[str, float]:
    """Each count with noise of so many of its standard deviations; values of too few are one, `OTHER`."""
    noisy = {
        value: round(max(0.0, count + noise * count**0.5 * generator.standard_normal()), 1)
        for value, count in sorted(cells.items())
    }
    least = _LEAST_COUNT * (1 + noise)
    shown = {value: count for value, count in noisy.items() if count >= least}
    rest = sum(noisy.values()) - sum(shown.values())
    return shown | ({OTHER: round(rest, 1)} if rest > 0 else {})
