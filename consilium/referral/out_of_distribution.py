"""Out of distribution: how unlike the training data a study is, for every encoder by itself and for the joint state.

One encoder at a time, because a good note masks a foreign image in the joint state. A part's score is the largest of
its statistics, each in standard deviations above the mean of training studies: the Mahalanobis distance of the
encoder's features from those of the training studies (Lee et al., NeurIPS 2018, section 2.1, with one class: labels
that do not exclude each other give none), and the statistic of its own that a modality may declare
(`consilium.modalities.typicality`).

`benchmarks/out_of_distribution.py` sets this distance beside k nearest neighbours (Sun et al., ICML 2022) and the
relative Mahalanobis distance (Ren et al. 2021).

The p-value is conformal (Vovk et al. 2005): the share of calibration studies, this one counted with them, that are at
least as far. Of studies like these at most a share ``a`` has a p-value of ``a`` or less.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from consilium.domain.diagnosis import OutOfDistributionScore
from consilium.domain.errors import TrainingError
from consilium.modalities.registry import modality_names
from consilium.modalities.typicality import PAD, Learned, Statistic, typicality_of
from consilium.network.diagnosis_model import FUSED
from consilium.preprocessing.batch import Batch

LEAST_STUDIES = 10
"""A part is scored where at least so many training studies have it."""

_SCALE_SHARE = 0.2
"""Share of the training studies that the statistics are put to scale on; the rest gives their parameters."""

Scores = dict[str, npt.NDArray[np.float64]]
"""Per part, float64 [N]; NaN where the study lacks it."""


@dataclass(frozen=True, slots=True, eq=False)
class Inputs:
    """What B studies are compared with the training data by.

    Attributes
    ----------
    features : dict of str to float32 [B, D]
        Of `consilium.network.diagnosis_model.Logits`; NaN where the modality is absent.
    evidence : dict of str to Tensor [B] or [B, L]
        Per modality with a statistic of its own, what that is computed from.
    """

    features: dict[str, Tensor]
    evidence: dict[str, Tensor]

    @classmethod
    def of(cls, batch: Batch, features: Mapping[str, Tensor]) -> Inputs:
        """Those of `batch`, of which the model made `features`."""
        own = {modality: typicality_of(modality).statistic for modality in batch.inputs}
        evidence = {m: one.evidence(batch.inputs[m]) for m, one in own.items() if one is not None}
        return cls(dict(features), evidence)

    def __len__(self) -> int:
        return len(next(iter(self.features.values())))

    @classmethod
    def concatenate(cls, parts: Sequence[Inputs]) -> Inputs:
        """All studies of `parts`, in order."""
        features = {name: torch.cat([part.features[name] for part in parts]) for name in parts[0].features}
        evidence = {name: _stacked([part.evidence[name] for part in parts]) for name in parts[0].evidence}
        return cls(features, evidence)

    def select(self, rows: Tensor) -> Inputs:
        """The studies at `rows`, indices or a mask [B]."""
        return self._map(lambda values: values[rows])

    def cpu(self) -> Inputs:
        """The same in main memory."""
        return self._map(Tensor.cpu)

    def _map(self, change: Callable[[Tensor], Tensor]) -> Inputs:
        features, evidence = (
            {name: change(values) for name, values in of.items()} for of in (self.features, self.evidence)
        )
        return Inputs(features, evidence)


def _stacked(evidence: Sequence[Tensor]) -> Tensor:
    """Evidence of several batches as one; [B, L] are padded to the longest."""
    if evidence[0].ndim == 1:
        return torch.cat(list(evidence))
    longest = max(one.shape[1] for one in evidence)
    return torch.cat([torch.nn.functional.pad(one, (0, longest - one.shape[1]), value=PAD) for one in evidence])


@dataclass(frozen=True, slots=True, eq=False)
class Gaussian:
    """Features of training studies as one normal distribution.

    Attributes
    ----------
    mean : float32 [D]
    whitening : float32 [D, D]
        ``(x - mean) @ whitening`` has unit covariance.
    """

    mean: Tensor
    whitening: Tensor

    @classmethod
    def fit(cls, features: Tensor) -> Gaussian:
        """From `features` [N, D]; the covariance is shrunk towards a multiple of the identity.

        How much is Ledoit and Wolf's estimate (Journal of Multivariate Analysis 88, 2004, section 3.3), so that fewer
        studies than dimensions are no obstacle.
        """
        values = features.double()
        studies, width = values.shape
        mean = values.mean(dim=0)
        centred = values - mean
        covariance = centred.T @ centred / studies
        size = covariance.trace() / width
        distance = (covariance - size * torch.eye(width)).square().sum()
        spread = (centred.square().sum(dim=1).square().sum() / studies - covariance.square().sum()) / studies
        share = float((spread / distance).clamp(0, 1)) if distance > 0 else 1.0
        shrunk = (1 - share) * covariance + share * size * torch.eye(width)
        # Features that do not vary at all would have no inverse.
        eigenvalues, directions = torch.linalg.eigh(shrunk)
        whitening = directions / eigenvalues.clamp(min=max(float(size), 1.0) * 1e-9).sqrt()
        return cls(mean.float(), whitening.float().contiguous())

    def distance(self, features: Tensor) -> Tensor:
        """Mahalanobis distance of each row of `features` [B, D], [B]."""
        return torch.linalg.vector_norm((features - self.mean) @ self.whitening, dim=1)


def _scaling(studies: int, seed: int) -> npt.NDArray[np.bool_]:
    """Which of the training studies the statistics are put to scale on."""
    return np.random.default_rng(seed).random(studies) < _SCALE_SHARE


@dataclass(frozen=True, slots=True, eq=False)
class OutOfDistributionDetector:
    """Scores how far studies are from the training data, part by part.

    Attributes
    ----------
    gaussians : dict of str to Gaussian
        Per part: the modalities that the model reads, and ``fused``.
    learned : dict of str to dict of str to Tensor
        Per modality, what the statistic of its own learned.
    scales : dict of str to float32 [S, 2]
        Per part, mean and standard deviation of each of its statistics.
    ordinary : dict of str to float32 [n]
        Scores of calibration studies, ascending; empty before `calibrated`.
    """

    gaussians: dict[str, Gaussian]
    learned: dict[str, Learned]
    scales: dict[str, Tensor]
    ordinary: dict[str, Tensor]

    @staticmethod
    def require_enough(known: Mapping[str, npt.NDArray[np.bool_]], studies: int, seed: int) -> None:
        """`TrainingError` where too few of the training studies, in this order, have a part; see `fit`."""
        scaling = _scaling(studies, seed)
        for part, there in known.items():
            if min((there & scaling).sum(), (there & ~scaling).sum()) < 2 or there.sum() < LEAST_STUDIES:
                raise TrainingError(
                    f"refer.out_of_distribution: {int(there.sum())} training studies have {part}, at least "
                    f"{LEAST_STUDIES} are needed; refer.out_of_distribution null does without"
                )

    @classmethod
    def fit(
        cls, inputs: Inputs, patients: npt.NDArray, preparations: Mapping[str, Any], seed: int
    ) -> OutOfDistributionDetector:
        """Learn what training studies are like; `calibrated` makes it complete.

        Parameters
        ----------
        inputs : Inputs
            Of the training studies, N of them, in main memory.
        patients : str [N]
        preparations : mapping of str to Preparation
            Of the modalities that the model reads, fitted.
        seed : int
            Of the draw of the studies that statistics are put to scale on.

        Raises
        ------
        TrainingError
            Where fewer than `LEAST_STUDIES` studies have a part.
        """
        known_of = {part: features.isfinite().all(dim=1) for part, features in inputs.features.items()}
        cls.require_enough({part: known.numpy() for part, known in known_of.items()}, len(inputs), seed)
        scaling = torch.from_numpy(_scaling(len(inputs), seed))
        shaping = inputs.select(~scaling)
        gaussians = {
            part: Gaussian.fit(features[known_of[part] & ~scaling]) for part, features in inputs.features.items()
        }
        those = patients[~scaling.numpy()]
        learned = {
            part: own.fit(shaping.evidence[part], those, preparations[part]) for part, own in _own(gaussians).items()
        }
        unscaled = cls(gaussians, learned, {}, {})
        scales = {}
        for part, values in unscaled._statistics(inputs.select(scaling)).items():
            known = values.isfinite().all(dim=1)
            spread = values[known].std(dim=0).clamp(min=1e-6)
            scales[part] = torch.stack([values[known].mean(dim=0), spread], dim=1)
        return replace(unscaled, scales=scales)

    def calibrated(self, scores: Scores) -> OutOfDistributionDetector:
        """The same detector, with p-values against `scores` of studies that the model has not learned from."""
        ordinary = {
            part: torch.from_numpy(np.sort(values[~np.isnan(values)])).float() for part, values in scores.items()
        }
        return replace(self, ordinary=ordinary)

    def to(self, device: torch.device | str) -> OutOfDistributionDetector:
        """The same detector, which then scores inputs on `device`."""
        return _assemble({name: tensor.to(device) for name, tensor in self._tensors().items()})

    def score(self, inputs: Inputs) -> dict[str, Tensor]:
        """Score of each part, float [B], higher is farther; NaN where the study lacks it."""
        found = {}
        for part, values in self._statistics(inputs).items():
            mean, spread = self.scales[part].T
            found[part] = ((values - mean) / spread).amax(dim=1)
        return found

    def p_values(self, scores: Mapping[str, npt.ArrayLike]) -> Scores:
        """Conformal p-value of each score, [N] per part; NaN where the score is, 1 where nothing was calibrated."""
        found = {}
        for part, values in scores.items():
            given = np.asarray(values, np.float32)
            ordinary = self.ordinary[part].cpu().numpy() if part in self.ordinary else np.zeros(0, np.float32)
            as_far = len(ordinary) - np.searchsorted(ordinary, given, side="left")
            found[part] = np.where(np.isnan(given), np.nan, (1 + as_far) / (1 + len(ordinary)))
        return found

    def results(self, scores: Mapping[str, float], rate: float) -> tuple[OutOfDistributionScore, ...]:
        """One study's `scores` as a diagnosis holds them; a p-value below `rate` is out of distribution."""
        there = {part: score for part, score in scores.items() if not np.isnan(score)}
        p_values = self.p_values({part: [score] for part, score in there.items()})
        return tuple(
            OutOfDistributionScore(part, score, float(p_values[part][0]), bool(p_values[part][0] < rate))
            for part, score in there.items()
        )

    def _statistics(self, inputs: Inputs) -> dict[str, Tensor]:
        """Statistics of each part, [B, S]; rows of NaN where the study lacks it."""
        found, own = {}, _own(self.gaussians)
        for part, gaussian in self.gaussians.items():
            columns = [gaussian.distance(inputs.features[part])]
            if part in own:
                columns.append(own[part].score(self.learned[part], inputs.evidence[part]))
            values = torch.stack(columns, dim=1)
            found[part] = values.masked_fill(columns[0].isnan()[:, None], torch.nan)
        return found

    # --- in the artifact ---------------------------------------------------------------------------------------------

    def save(self, path: Path) -> None:
        """Write a safetensors file. No study's features are in it."""
        save_file({name: tensor.contiguous() for name, tensor in self._tensors().items()}, path)

    @classmethod
    def load(cls, path: Path) -> OutOfDistributionDetector:
        """Read what `save` wrote.

        Raises
        ------
        ValueError, KeyError
            Where it is something else.
        """
        tensors = load_file(path)
        if not all(tensor.isfinite().all() for tensor in tensors.values()):
            raise ValueError("every figure must be finite")
        return _assemble(tensors)

    def _tensors(self) -> dict[str, Tensor]:
        """Everything that was learned, by name."""
        tensors = {f"scale/{part}": values for part, values in self.scales.items()}
        tensors |= {f"ordinary/{part}": values for part, values in self.ordinary.items()}
        for part, gaussian in self.gaussians.items():
            tensors |= {f"mean/{part}": gaussian.mean, f"whitening/{part}": gaussian.whitening}
        for part, learned in self.learned.items():
            tensors |= {f"own/{part}/{name}": tensor for name, tensor in learned.items()}
        return tensors


def _own(parts: Iterable[str]) -> dict[str, Statistic]:
    """The statistics of their own that the modalities among `parts` declare."""
    found = {part: typicality_of(part).statistic for part in parts}
    return {part: statistic for part, statistic in found.items() if statistic is not None}


_PARTS = (*modality_names(), FUSED)


def _assemble(tensors: Mapping[str, Tensor]) -> OutOfDistributionDetector:
    def under(kind: str) -> dict[str, Tensor]:
        return {name.removeprefix(kind): value for name, value in tensors.items() if name.startswith(kind)}

    means, whitenings, scales = under("mean/"), under("whitening/"), under("scale/")
    if not means or not means.keys() == whitenings.keys() == scales.keys():
        raise ValueError("every part must have mean, whitening and scale")
    gaussians = {part: Gaussian(means[part], whitenings[part]) for part in _PARTS if part in means}
    own = _own(gaussians)
    learned = {part: under(f"own/{part}/") for part in own}
    if any(learned[part].keys() != set(own[part].names) for part in own):
        raise ValueError("every part must have what its own statistic learned")
    return OutOfDistributionDetector(gaussians, learned, scales, under("ordinary/"))
