"""Measuring: every method, on every study, evaluated in every way that the cohort allows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from consilium.calibration import Calibration
from consilium.domain.findings import FindingSet
from consilium.explain import shapley as games
from consilium.explain.case import Case
from consilium.explain.explainer import units_of
from consilium.explain.methods import Method, ModalityExplanation, explanations
from consilium.network.diagnosis_model import DiagnosisModel
from consilium.preprocessing.batch import Prepared
from consilium.preprocessing.collate import Preprocessing
from training.cohorts.phantom.state import FINDINGS
from training.data.cached_cohort import CachedCohort
from training.data.datamodule import StudyDataset
from training.evaluation.faithfulness import checks
from training.evaluation.faithfulness.curves import deletion_and_insertion
from training.evaluation.faithfulness.localisation import average_precision, centre_prior, mass_in_mask, pointing
from training.evaluation.faithfulness.scores import Scores, Subject, spearman
from training.evaluation.faithfulness.table import AREA, CENTRE, MEAN_MASK, MODALITIES, RANDOM, summarise
from training.evaluation.faithfulness.truth import Truth, Twin
from training.training_side import training_side

Weights = dict[tuple[str, str], npt.NDArray]
"""(modality, method) → weights of P findings: [P, V, h, w], [P, W] or [P, K]."""

Views = Mapping[tuple[str, str], Sequence[npt.NDArray]]
"""(modality, method) → weights of each finding as `Truth.view` shows them."""

MOST_CHECKED = 30
"""Studies on which methods are compared with an untrained model and under noise; each costs as much as explaining."""
_MOST_MASKS = 300
"""Studies that the mean mask is made of."""


@dataclass(frozen=True, slots=True, eq=False)
class _Bench:
    """What every study is measured with."""

    model: DiagnosisModel
    untrained: DiagnosisModel
    noisy: DiagnosisModel
    preprocessing: Preprocessing
    calibration: Calibration
    findings: FindingSet
    explanations: Mapping[str, ModalityExplanation]
    truth: Truth | None
    mean_masks: Mapping[str, Mapping[str, npt.NDArray[np.float32]]]
    seed: int
    scores: Scores

    def case(self, prepared: Prepared, model: DiagnosisModel | None = None) -> Case:
        model = model or self.model
        watched = {module for _, method in self.methods() for module in method.watches(model)}
        units = units_of(prepared, self.preprocessing)
        return Case.of(model, self.preprocessing, self.calibration, prepared, list(watched), units)

    def methods(self) -> Iterator[tuple[str, Method]]:
        """Every method that suits the model, with its modality."""
        for modality, explanation in self.explanations.items():
            for method in explanation.methods:
                if method.suits(self.preprocessing):
                    yield modality, method

    def weigh(self, case: Case) -> Weights:
        """Every method on every finding of one study."""
        positions = range(len(self.findings))
        return {(m, method.name): method.weigh(case, positions) for m, method in self.methods() if case.units[m]}


def measure_faithfulness(
    model: DiagnosisModel,
    preprocessing: Preprocessing,
    calibration: Calibration,
    cached: CachedCohort,
    rows: npt.NDArray[np.int64],
    findings: FindingSet,
    *,
    studies: int,
    seed: int,
    bootstrap: int = 200,
    truth: Truth | None = None,
    advance: Callable[[], None] | None = None,
) -> pd.DataFrame:
    """How far each method can be believed.

    Parameters
    ----------
    rows : int [n]
        Positions in the cohort that the model has not learned from; `studies` of them are drawn.
    bootstrap : int
        Replicates over patients.
    truth : Truth, optional
        Of a cohort that knows where its evidence lies. Without one only what needs no truth is measured.
    advance : callable, optional
        Called after each study.

    Returns
    -------
    DataFrame
        As `training.evaluation.faithfulness.table.summarise` says. The same arguments give the same table.

    Raises
    ------
    TrainingError
        Where this version renders the phantom otherwise than the cohort has it.
    """
    generator = np.random.default_rng(seed)
    drawn = np.sort(generator.permutation(rows)[:studies])
    bench = _bench(model.eval(), preprocessing, calibration, findings, cached, drawn, seed, truth)
    dataset = StudyDataset(cached, preprocessing, drawn)
    for number in range(len(dataset)):
        prepared, labels, *_ = dataset[number]
        _measure_study(bench, prepared, labels, number)
        if advance is not None:
            advance()
    return summarise(bench.scores, findings.names, bootstrap=bootstrap, seed=seed)


def _bench(
    model: DiagnosisModel,
    preprocessing: Preprocessing,
    calibration: Calibration,
    findings: FindingSet,
    cached: CachedCohort,
    drawn: npt.NDArray[np.int64],
    seed: int,
    truth: Truth | None,
) -> _Bench:
    explained = explanations(preprocessing.recipe.modalities)
    mean_masks = {}
    if truth is not None:
        mean_masks = {name: _mean_masks(truth, cached, set(drawn.tolist()), findings, name) for name in explained}
    return _Bench(
        model=model,
        untrained=checks.untrained(model, preprocessing, findings, seed),
        noisy=checks.with_noisy_weights(model, seed),
        preprocessing=preprocessing,
        calibration=calibration,
        findings=findings,
        explanations=explained,
        truth=truth,
        mean_masks=mean_masks,
        seed=seed,
        scores=Scores(),
    )


def _mean_masks(
    truth: Truth, cached: CachedCohort, measured: set[int], findings: FindingSet, modality: str
) -> dict[str, npt.NDArray[np.float32]]:
    """Where each finding usually lies, from positive studies that are not measured on."""
    sums: dict[str, list[npt.NDArray[np.float32]]] = {name: [] for name in findings.names}
    others = [row for row, study in enumerate(cached.studies) if modality in study.parts and row not in measured]
    for row in others[:_MOST_MASKS]:
        record = cached.cohort.records[row]
        masks = truth.masks(modality, record.study_id)
        for name, label in zip(findings.names, record.labels, strict=True):
            if label == 1 and name in masks:
                sums[name].append(masks[name].astype(np.float32))
    return {name: np.mean(masks, axis=0) for name, masks in sums.items() if masks}


def _measure_study(bench: _Bench, prepared: Prepared, labels: npt.NDArray[np.float32], number: int) -> None:
    """All figures of one study into the scores."""
    case = bench.case(prepared)
    weights = bench.weigh(case)
    positive = np.flatnonzero(labels == 1).tolist()
    _curves(bench, case, weights, positive, number)
    if number < MOST_CHECKED:
        _checks(bench, case, weights, number)
    if bench.truth is not None:
        views = _views(bench.truth, case, weights)
        _places(bench, bench.truth, case, views, positive)
        _decisive(bench, bench.truth, case, weights | _random(case, bench, number))
        _twins(bench, case, views, list(bench.truth.twins(case)))
        _modalities(bench, bench.truth, case)


def _patient(case: Case) -> str:
    return case.prepared.study.patient_id


def _random(case: Case, bench: _Bench, number: int) -> Weights:
    """Weights that know nothing: what every method must beat."""
    generator = np.random.default_rng((bench.seed, number))
    count, shape_of = len(bench.findings), {name: training_side(name).unit_shape for name in bench.explanations}
    # Maps are drawn last, so that the other weights do not depend on their size.
    order = sorted(bench.explanations, key=lambda modality: bool(shape_of[modality]))
    shapes = {modality: (len(case.units[modality]), *shape_of[modality]) for modality in order}
    return {(part, RANDOM): generator.normal(size=(count, *shape)) for part, shape in shapes.items() if shape[0]}


def _curves(bench: _Bench, case: Case, weights: Weights, positive: Sequence[int], number: int) -> None:
    """Deletion and insertion, of the findings that the study has."""
    for (part, method), by_finding in (weights | _random(case, bench, number)).items():
        for position in positive:
            figures = deletion_and_insertion(case, bench.explanations[part], by_finding[position], position)
            subject = Subject(part, method, bench.findings.names[position])
            for metric, figure in zip(("deletion", "insertion"), figures, strict=True):
                bench.scores.add(subject, metric, _patient(case), figure)


def _checks(bench: _Bench, case: Case, weights: Weights, number: int) -> None:
    """Rank correlation with the explanation of an untrained model, and with that of the study under small noise."""
    disturbed = checks.with_noise(case.prepared, (bench.seed, number))
    others = {
        "sanity": bench.weigh(bench.case(case.prepared, bench.untrained)),
        "stability": bench.weigh(bench.case(disturbed, bench.noisy)),
    }
    for (metric, other), (part, method) in ((pair, key) for pair in others.items() for key in weights):
        for position, name in enumerate(bench.findings.names):
            alike = spearman(weights[part, method][position], other[part, method][position])
            bench.scores.add(Subject(part, method, name), metric, _patient(case), alike)


def _views(truth: Truth, case: Case, weights: Weights) -> Views:
    return {
        (part, method): [truth.view(part, case, one) for one in by_finding]
        for (part, method), by_finding in weights.items()
    }


def _places(bench: _Bench, truth: Truth, case: Case, views: Views, positive: Sequence[int]) -> None:
    """Mass in mask and pointing game, of the findings that the study has and that show in a place."""
    for part in dict.fromkeys(part for part, _ in views):
        masks = truth.masks(part, case.prepared.study.study_id)
        for position in positive:
            name = bench.findings.names[position]
            mask = masks.get(name)
            if mask is not None and mask.any():
                maps = {method: by_finding[position] for (one, method), by_finding in views.items() if one == part}
                _place(bench, case, part, name, maps, mask)


def _place(
    bench: _Bench, case: Case, part: str, finding: str, maps: Mapping[str, npt.NDArray], mask: npt.NDArray[np.bool_]
) -> None:
    candidates = {**maps, AREA: np.ones(mask.shape, np.float32), CENTRE: centre_prior(mask.shape)}
    if finding in bench.mean_masks[part]:
        candidates[MEAN_MASK] = bench.mean_masks[part][finding]
    for method, saliency in candidates.items():
        subject = Subject(part, method, finding)
        bench.scores.add(subject, "mass_in_mask", _patient(case), mass_in_mask(saliency, mask))
        bench.scores.add(subject, "pointing", _patient(case), pointing(saliency, mask))


def _decisive(bench: _Bench, truth: Truth, case: Case, weights: Weights) -> None:
    """How well decisive units are separated from the others."""
    for position, finding in enumerate(bench.findings.names):
        found = {part: truth.decisive(part, case, finding) for part in dict.fromkeys(part for part, _ in weights)}
        for (part, method), by_finding in weights.items():
            decisive = found[part]
            if decisive is not None:
                figure = average_precision(by_finding[position], *decisive)
                bench.scores.add(Subject(part, method, finding), "auprc", _patient(case), figure)


def _twins(bench: _Bench, case: Case, views: Views, twins: Sequence[Twin]) -> None:
    """What each method attributed to evidence that twins lack, and what that evidence did."""
    if not twins:
        return
    batch = case.preprocessing.collate([twin.prepared for twin in twins]).to(case.fused.device)
    with torch.no_grad():
        after = case.log_odds(case.model(batch).fused)
    before = case.log_odds(case.fused)[0]
    for twin, log_odds in zip(twins, after, strict=True):
        position = bench.findings.index(twin.finding)
        fell = float(before[position] - log_odds[position])
        for (part, method), by_finding in views.items():
            if part == twin.part:
                attributed = float(np.nansum(by_finding[position][twin.where]))
                subject = Subject(part, method, twin.finding)
                bench.scores.add_twin(subject, _patient(case), attributed, fell, twin.oracle)


def _modalities(bench: _Bench, truth: Truth, case: Case) -> None:
    """What each modality brought, beside what it brings to the oracle."""
    theirs = truth.modality_log_odds(case.prepared.study.study_id)
    ours = case.subset_log_odds()
    for position, finding in enumerate(bench.findings.names):
        own = {subset: float(log_odds[position]) for subset, log_odds in ours.items()}
        best = {
            subset: float(log_odds[FINDINGS.index(finding)]) for subset, log_odds in theirs.items() if subset in own
        }
        wanted = games.shapley(best)
        for method in (games.shapley, games.leave_one_out):
            for modality, weight in method(own).items():
                subject = Subject(MODALITIES, method.__name__, finding)
                bench.scores.add_twin(subject, _patient(case), weight, wanted[modality], wanted[modality])
