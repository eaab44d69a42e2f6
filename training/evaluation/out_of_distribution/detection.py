"""Whether a model notices inputs out of distribution: ordinary test studies against the same studies altered."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from consilium.calibration import patient_bootstrap, percentile_interval
from consilium.configuration.recipe import Recipe
from consilium.domain.errors import InputError, TrainingError
from consilium.network.diagnosis_model import FUSED, DiagnosisModel
from consilium.preprocessing.batch import Prepared
from consilium.preprocessing.collate import Preprocessing, converted
from consilium.referral.out_of_distribution import Inputs, OutOfDistributionDetector
from training.cohorts import cohort_kind
from training.data.cached_cohort import CachedCohort
from training.data.datamodule import StudyDataset
from training.evaluation.comparisons import estimate_columns
from training.evaluation.metrics import ranking
from training.evaluation.out_of_distribution.kinds import Case, Kind, all_kinds

_log = logging.getLogger(__name__)

Floats = npt.NDArray[np.float64]
Scores = dict[str, Floats]

ORDINARY = "ordinary"
"""In place of a kind: the studies as they are."""
_SENSITIVITY = 0.95


@dataclass(frozen=True, slots=True, eq=False)
class _Bench:
    """What every kind is measured with."""

    model: DiagnosisModel
    preprocessing: Preprocessing
    detector: OutOfDistributionDetector
    recipe: Recipe
    device: torch.device

    def scores(self, items: Sequence[Prepared | None]) -> Scores:
        """Score of each part, [N]; without end where None, which is nothing to read."""
        found = {part: np.full(len(items), np.inf) for part in self.detector.gaussians}
        for rows in _batches([row for row, item in enumerate(items) if item is not None], self.recipe):
            batch = self.preprocessing.collate([item for row in rows if (item := items[row]) is not None])
            with torch.inference_mode():
                here = batch.to(self.device)
                scored = self.detector.score(Inputs.of(here, self.model(here).features))
            for part, values in scored.items():
                found[part][rows] = values.double().cpu().numpy()
        return found


def _batches(rows: list[int], recipe: Recipe) -> Iterator[list[int]]:
    size = recipe.training.batch_size
    return (rows[start : start + size] for start in range(0, len(rows), size))


def evaluate_out_of_distribution(
    model: DiagnosisModel,
    preprocessing: Preprocessing,
    detector: OutOfDistributionDetector,
    cached: CachedCohort,
    rows: npt.NDArray[np.int64],
    recipe: Recipe,
) -> pd.DataFrame:
    """Alter ``evaluation.out_of_distribution`` of the studies at `rows` in every way, and measure the detection.

    Each kind is set against the same studies as they are. An input of which nothing is left to read counts as noticed:
    its modality is then absent, and the diagnosis says so.

    Parameters
    ----------
    detector : OutOfDistributionDetector
        Calibrated.
    rows : int [n]
        Positions in the cohort of studies that neither model nor detector has learned from.

    Returns
    -------
    DataFrame
        Per kind and part (the modality that was changed, and ``fused``): ``distance`` (``far``, ``near``, or
        `ORDINARY` for the studies as they are), ``n`` studies, ``absent`` the share of which nothing was left to read,
        ``auroc`` with its 95 % interval over patients, ``fpr95`` the share of ordinary studies that are as unusual as
        the least unusual of 95 %, and ``flagged`` the share with a p-value below ``refer.out_of_distribution``.

    Raises
    ------
    TrainingError
        Where no study can be read, or the recipe has no `refer.out_of_distribution`.
    """
    rate = recipe.refer.out_of_distribution
    if rate is None:
        raise TrainingError("refer.out_of_distribution is null: there is nothing to evaluate")
    rng = np.random.default_rng(recipe.seed)
    chosen = np.sort(rng.choice(rows, min(recipe.evaluation.out_of_distribution, len(rows)), replace=False))
    dataset = StudyDataset(cached, preprocessing, chosen)
    if not len(dataset):
        raise TrainingError("there is no study that this model can read")
    items = [dataset[position][0] for position in range(len(dataset))]
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    bench = _Bench(model.to(device).eval(), preprocessing, detector.to(device), recipe, device)
    renderer = cohort_kind(recipe.cohort.kind).load_renderer(cached.cohort.root)
    cohort = cached.cohort
    cases = [Case(cohort.records[row], cached.studies[row], renderer, cohort.variables) for row in dataset.rows]
    ordinary = bench.scores(items)
    lines = _ordinary_lines(detector, ordinary, rate)
    for kind in all_kinds():
        able = np.array([kind.modality in recipe.modalities and kind.modality in item.present for item in items])
        if able.any() and (renderer is not None or not kind.rendered):
            lines += _kind_lines(bench, kind, cases, items, able, ordinary, rng)
            _log.info("altered inputs: %s", kind.name)
    model.cpu()
    return pd.DataFrame(lines)


def _kind_lines(
    bench: _Bench,
    kind: Kind,
    cases: Sequence[Case],
    items: Sequence[Prepared],
    able: npt.NDArray[np.bool_],
    ordinary: Scores,
    rng: np.random.Generator,
) -> list[dict[str, object]]:
    """The lines of `kind`, from the studies that are `able` [N] to be changed so."""
    recipe, rate = bench.recipe, bench.recipe.refer.out_of_distribution
    assert rate is not None
    changed = [alter(bench.preprocessing, kind, cases[row], items[row], rng) for row in np.flatnonzero(able).tolist()]
    scores = bench.scores(changed)
    patients = np.array([case.record.patient_id for case in cases])[able]
    weights = patient_bootstrap(np.tile(patients, 2), recipe.evaluation.bootstrap, recipe.seed)
    lines = []
    for part in (kind.modality, FUSED):
        line: dict[str, object] = {
            "kind": kind.name,
            "part": part,
            "distance": "far" if kind.far else "near",
            "n": len(changed),
            "absent": float(np.mean([item is None for item in changed])),
        }
        line |= separation(ordinary[part][able], scores[part], weights)
        lines.append(line | {"flagged": _flagged(bench.detector, part, scores[part], rate)})
    return lines


def alter(
    preprocessing: Preprocessing, kind: Kind, case: Case, item: Prepared, rng: np.random.Generator
) -> Prepared | None:
    """The altered study as the model reads it; None where its modality has nothing left to read."""
    try:
        prepared = preprocessing.prepare(kind.change(case, rng), converted(preprocessing, item, kind.modality))
    except InputError:
        return None
    return prepared if kind.modality in prepared.present else None


def _ordinary_lines(detector: OutOfDistributionDetector, ordinary: Scores, rate: float) -> list[dict[str, object]]:
    """What is flagged of studies as they are, which should be the rate itself."""
    lines: list[dict[str, object]] = []
    for part, scores in ordinary.items():
        known = scores[~np.isnan(scores)]
        if len(known):
            line = {"kind": ORDINARY, "part": part, "distance": ORDINARY, "n": len(known), "absent": 0.0}
            lines.append(line | {"flagged": _flagged(detector, part, known, rate)})
    return lines


def separation(ordinary: Floats, altered: Floats, weights: Floats) -> dict[str, float]:
    """AUROC with its interval, and FPR95, of `altered` [n] against `ordinary` [n] under `weights` [1 + R, 2 n]."""
    positive = np.repeat([False, True], len(ordinary))
    found = ranking(positive, np.concatenate([ordinary, altered]), weights)["auroc"]
    threshold = np.quantile(altered, 1 - _SENSITIVITY, method="lower")
    return estimate_columns("auroc", percentile_interval(found)) | {"fpr95": float((ordinary >= threshold).mean())}


def _flagged(detector: OutOfDistributionDetector, part: str, scores: Floats, rate: float) -> float:
    return float((detector.p_values({part: scores})[part] < rate).mean())
