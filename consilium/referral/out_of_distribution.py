"""Novelty: how unlike the training data a study is, for every encoder by itself and for the joint state.

One encoder at a time, because a good note masks a foreign image in the joint state. A part's score is the largest of
its statistics, each in standard deviations above the mean of training studies:

- the Mahalanobis distance of the encoder's features from those of the training studies (Lee et al., NeurIPS 2018,
  section 2.1, with one class: labels that do not exclude each other give none);
- of notes also the mean surprisal of their word pieces under a bigram model, because an encoder's pooled tokens hardly
  notice the order of words;
- of observations also the most extreme standardised value.

`benchmarks/novelty.py` sets this distance beside k nearest neighbours (Sun et al., ICML 2022) and the relative
Mahalanobis distance (Ren et al. 2021).

The p-value is conformal (Vovk et al. 2005): the share of calibration studies, this one counted with them, that are at
least as strange. Of ordinary studies at most a share ``a`` has a p-value of ``a`` or less.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from consilium.domain.diagnosis import OutOfDistributionScore
from consilium.domain.errors import TrainingError
from consilium.modalities.registry import modality_names
from consilium.modalities.text.wordpiece import LEAST_PATIENTS
from consilium.network.diagnosis_model import FUSED
from consilium.preprocessing.batch import Batch

LEAST_STUDIES = 10
"""A part is judged where at least so many training studies have it."""

_SCALE_SHARE = 0.2
"""Share of the training studies that the statistics are put to scale on; the rest gives their parameters."""
_NO_PIECE = -1

Scores = dict[str, npt.NDArray[np.float64]]
"""Per part, float64 [N]; NaN where the study lacks it."""


@dataclass(frozen=True, slots=True, eq=False)
class Inputs:
    """What the novelty of B studies is judged by.

    Attributes
    ----------
    features : dict of str to float32 [B, D]
        Of `consilium.network.diagnosis_model.Logits`; NaN where the modality is absent.
    pieces : int64 [B, L]
        Word pieces of the notes, `_NO_PIECE` beyond their end.
    extreme : float32 [B]
        Largest absolute standardised observation; 0 where there is none.
    """

    features: dict[str, Tensor]
    pieces: Tensor
    extreme: Tensor

    @classmethod
    def of(cls, batch: Batch, features: Mapping[str, Tensor]) -> Inputs:
        """Those of `batch`, of which the model made `features`."""
        device = next(iter(features.values())).device
        pieces = torch.full((len(batch), 1), _NO_PIECE, device=device)
        extreme = torch.zeros(len(batch), device=device)
        if "text" in batch.inputs:
            text = batch.inputs["text"]
            pieces = text["input_ids"].masked_fill(~text["mask"], _NO_PIECE)
        if "observations" in batch.inputs:
            values = batch.inputs["observations"]
            extreme = values["numbers"].abs().masked_fill(~values["mask"], 0).amax(dim=1)
        return cls(dict(features), pieces, extreme)

    @classmethod
    def concatenate(cls, parts: Sequence[Inputs]) -> Inputs:
        """All studies of `parts`, in order."""
        widest = max(part.pieces.shape[1] for part in parts)
        padded = [
            torch.nn.functional.pad(part.pieces, (0, widest - part.pieces.shape[1]), value=_NO_PIECE) for part in parts
        ]
        features = {name: torch.cat([part.features[name] for part in parts]) for name in parts[0].features}
        return cls(features, torch.cat(padded), torch.cat([part.extreme for part in parts]))

    def select(self, rows: Tensor) -> Inputs:
        """The studies at `rows`, indices or a mask [B]."""
        return Inputs({name: v[rows] for name, v in self.features.items()}, self.pieces[rows], self.extreme[rows])

    def cpu(self) -> Inputs:
        """The same in main memory."""
        return Inputs({name: v.cpu() for name, v in self.features.items()}, self.pieces.cpu(), self.extreme.cpu())


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


@dataclass(frozen=True, slots=True, eq=False)
class Bigrams:
    """How word pieces follow each other in the training notes, with Witten and Bell's smoothing.

    P(b | a) = (c(a b) + T(a) P(b)) / (c(a) + T(a)), where T(a) is the number of different pieces seen after a (Witten
    and Bell, IEEE Transactions on Information Theory 37, 1991, method C; Chen and Goodman 1999, section 2.5). What
    fewer than `LEAST_PATIENTS` patients' notes hold is not counted: the table names no patient.

    Attributes
    ----------
    alone : float32 [V]
        -log P(b).
    after : float32 [V]
        -log of the weight of P(b) after a piece.
    pairs : int64 [K]
        a V + b of every pair that was seen, ascending.
    together : float32 [K]
        -log P(b | a) of those.
    """

    alone: Tensor
    after: Tensor
    pairs: Tensor
    together: Tensor

    @classmethod
    def fit(cls, pieces: Tensor, patients: npt.NDArray, vocabulary: int) -> Bigrams:
        """From `pieces` [N, L] of notes of `patients` [N], all below `vocabulary`."""
        ids = pieces.numpy()
        here = ids != _NO_PIECE
        whose = np.unique(patients, return_inverse=True)[1][:, None]
        singles, single_counts = _shared(ids[here], np.broadcast_to(whose, ids.shape)[here])
        follows = here[:, 1:]
        keys = (ids[:, :-1].astype(np.int64) * vocabulary + ids[:, 1:])[follows]
        pairs, pair_counts = _shared(keys, np.broadcast_to(whose, follows.shape)[follows])
        alone = np.ones(vocabulary)
        alone[singles] += single_counts
        alone /= alone.sum()
        first, second = np.divmod(pairs, vocabulary)
        kinds = np.bincount(first, minlength=vocabulary)
        total = np.bincount(first, pair_counts, minlength=vocabulary) + kinds
        weight = np.divide(kinds, total, out=np.ones(vocabulary), where=total > 0)
        together = pair_counts / total[first] + weight[first] * alone[second]
        log = [torch.from_numpy(-np.log(p)).float() for p in (alone, weight, together)]
        return cls(log[0], log[1], torch.from_numpy(pairs), log[2])

    def surprisal(self, pieces: Tensor) -> Tensor:
        """Mean surprisal of the pieces of each row of `pieces` [B, L], nats, [B]; 0 where there are less than two."""
        first, second = pieces[:, :-1], pieces[:, 1:]
        follows = second != _NO_PIECE
        first, second = first.clamp(min=0), second.clamp(min=0)
        surprisals = self.after[first] + self.alone[second]
        if len(self.pairs):
            keys = first * len(self.alone) + second
            place = torch.searchsorted(self.pairs, keys).clamp(max=len(self.pairs) - 1)
            surprisals = torch.where(self.pairs[place] == keys, self.together[place], surprisals)
        return (surprisals * follows).sum(dim=1) / follows.sum(dim=1).clamp(min=1)


def _shared(keys: npt.NDArray, whose: npt.NDArray) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The `keys` [n] that `LEAST_PATIENTS` of `whose` [n] have, once each, ascending; how often each occurs."""
    found, position, counts = np.unique(keys, return_inverse=True, return_counts=True)
    owned = np.unique(np.stack([position, whose]), axis=1)[0]
    kept = np.bincount(owned, minlength=len(found)) >= LEAST_PATIENTS
    return found[kept].astype(np.int64), counts[kept]


def _scaling(studies: int, seed: int) -> npt.NDArray[np.bool_]:
    """Which of the training studies the statistics are put to scale on."""
    return np.random.default_rng(seed).random(studies) < _SCALE_SHARE


@dataclass(frozen=True, slots=True, eq=False)
class NoveltyDetector:
    """Scores studies for novelty, part by part.

    Attributes
    ----------
    gaussians : dict of str to Gaussian
        Per part: the modalities that the model reads, and ``fused``.
    bigrams : Bigrams or None
        None where the model reads no notes.
    scales : dict of str to float32 [S, 2]
        Per part, mean and standard deviation of each of its statistics.
    ordinary : dict of str to float32 [n]
        Scores of calibration studies, ascending; empty before `calibrated`.
    """

    gaussians: dict[str, Gaussian]
    bigrams: Bigrams | None
    scales: dict[str, Tensor]
    ordinary: dict[str, Tensor]

    @staticmethod
    def require_enough(known: Mapping[str, npt.NDArray[np.bool_]], studies: int, seed: int) -> None:
        """`TrainingError` where too few of the training studies, in this order, have a part; see `fit`."""
        scaling = _scaling(studies, seed)
        for part, there in known.items():
            if min((there & scaling).sum(), (there & ~scaling).sum()) < 2 or there.sum() < LEAST_STUDIES:
                raise TrainingError(
                    f"novelty: {int(there.sum())} training studies have {part}, at least {LEAST_STUDIES} are needed; "
                    "refer.novelty null does without"
                )

    @classmethod
    def fit(cls, inputs: Inputs, patients: npt.NDArray, vocabulary: int, seed: int) -> NoveltyDetector:
        """Learn what training studies are like; `calibrated` makes it complete.

        Parameters
        ----------
        inputs : Inputs
            Of the training studies, N of them, in main memory.
        patients : str [N]
        vocabulary : int
            Number of word pieces; 0 where the model reads no notes.
        seed : int
            Of the draw of the studies that statistics are put to scale on.

        Raises
        ------
        TrainingError
            Where fewer than `LEAST_STUDIES` studies have a part.
        """
        known_of = {part: features.isfinite().all(dim=1) for part, features in inputs.features.items()}
        cls.require_enough({part: known.numpy() for part, known in known_of.items()}, len(inputs.pieces), seed)
        scaling = torch.from_numpy(_scaling(len(inputs.pieces), seed))
        shaping = inputs.select(~scaling)
        gaussians = {
            part: Gaussian.fit(features[known_of[part] & ~scaling]) for part, features in inputs.features.items()
        }
        bigrams = Bigrams.fit(shaping.pieces, patients[~scaling.numpy()], vocabulary) if vocabulary else None
        unscaled = cls(gaussians, bigrams, {}, {})
        scales = {}
        for part, values in unscaled._statistics(inputs.select(scaling)).items():
            known = values.isfinite().all(dim=1)
            spread = values[known].std(dim=0).clamp(min=1e-6)
            scales[part] = torch.stack([values[known].mean(dim=0), spread], dim=1)
        return replace(unscaled, scales=scales)

    def calibrated(self, scores: Scores) -> NoveltyDetector:
        """The same detector, with p-values against `scores` of studies that the model has not learned from."""
        ordinary = {
            part: torch.from_numpy(np.sort(values[~np.isnan(values)])).float() for part, values in scores.items()
        }
        return replace(self, ordinary=ordinary)

    def to(self, device: torch.device | str) -> NoveltyDetector:
        """The same detector, which then scores inputs on `device`."""
        return _assemble({name: tensor.to(device) for name, tensor in self._tensors().items()})

    def score(self, inputs: Inputs) -> dict[str, Tensor]:
        """Score of each part, float [B], higher is stranger; NaN where the study lacks it."""
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
            as_strange = len(ordinary) - np.searchsorted(ordinary, given, side="left")
            found[part] = np.where(np.isnan(given), np.nan, (1 + as_strange) / (1 + len(ordinary)))
        return found

    def judge(self, scores: Mapping[str, float], rate: float) -> tuple[OutOfDistributionScore, ...]:
        """What a diagnosis says of one study's `scores`: of a novel part the p-value is below `rate`."""
        there = {part: score for part, score in scores.items() if not np.isnan(score)}
        p_values = self.p_values({part: [score] for part, score in there.items()})
        return tuple(
            OutOfDistributionScore(part, score, float(p_values[part][0]), bool(p_values[part][0] < rate))
            for part, score in there.items()
        )

    def _statistics(self, inputs: Inputs) -> dict[str, Tensor]:
        """Statistics of each part, [B, S]; rows of NaN where the study lacks it."""
        found = {}
        for part, gaussian in self.gaussians.items():
            columns = [gaussian.distance(inputs.features[part])]
            if part == "text" and self.bigrams is not None:
                columns.append(self.bigrams.surprisal(inputs.pieces))
            if part == "observations":
                columns.append(inputs.extreme)
            values = torch.stack(columns, dim=1)
            found[part] = values.masked_fill(columns[0].isnan()[:, None], torch.nan)
        return found

    # --- in the artifact ---------------------------------------------------------------------------------------------

    def save(self, path: Path) -> None:
        """Write a safetensors file. No study's features are in it, and no word of fewer than `LEAST_PATIENTS`."""
        save_file({name: tensor.contiguous() for name, tensor in self._tensors().items()}, path)

    @classmethod
    def load(cls, path: Path) -> NoveltyDetector:
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
        if self.bigrams is not None:
            tensors |= {f"bigrams/{name}": getattr(self.bigrams, name) for name in _BIGRAMS}
        return tensors


_PARTS = (*(modality for modality in modality_names()), FUSED)
_BIGRAMS = ("alone", "after", "pairs", "together")


def _assemble(tensors: Mapping[str, Tensor]) -> NoveltyDetector:
    def under(kind: str) -> dict[str, Tensor]:
        return {name.removeprefix(kind): value for name, value in tensors.items() if name.startswith(kind)}

    means, whitenings, scales = under("mean/"), under("whitening/"), under("scale/")
    if not means or not means.keys() == whitenings.keys() == scales.keys():
        raise ValueError("every part must have mean, whitening and scale")
    table = under("bigrams/")
    return NoveltyDetector(
        {part: Gaussian(means[part], whitenings[part]) for part in _PARTS if part in means},
        Bigrams(*(table[name] for name in _BIGRAMS)) if table else None,
        scales,
        under("ordinary/"),
    )
