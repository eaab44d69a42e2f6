"""Measuring: every method, on every study, judged in every way that the cohort allows."""

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
from consilium.modalities.image.saliency_maps import image_saliency
from consilium.network.diagnosis_model import DiagnosisModel
from consilium.preprocessing.batch import Prepared
from consilium.preprocessing.collate import Preprocessing
from training.cohorts.phantom.state import FINDINGS
from training.data.datamodule import CachedCohort, StudyDataset
from training.evaluation.faithfulness import checks
from training.evaluation.faithfulness.curves import deletion_and_insertion
from training.evaluation.faithfulness.localisation import average_precision, centre_prior, mass_in_mask, pointing
from training.evaluation.faithfulness.phantom_truth import Truth, Twin, decisive_variables
from training.evaluation.faithfulness.scores import Ledger, Subject, spearman
from training.evaluation.faithfulness.table import AREA, CENTRE, MEAN_MASK, MODALITIES, RANDOM, summarise

Weights = dict[tuple[str, str], npt.NDArray]
"""(modality, method) → weights of P findings: [P, V, h, w], [P, W] or [P, K]."""

IMAGE, TEXT, OBSERVATIONS = "image", "text", "observations"
"""The modalities whose evidence a phantom's truth knows the place of."""
_CELLS = {IMAGE: (16, 16)}
"""Of a random weight of a unit that is a map; drawn last."""

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
    mean_masks: Mapping[str, npt.NDArray[np.float32]]
    seed: int
    ledger: Ledger

    def case(self, prepared: Prepared, model: DiagnosisModel | None = None) -> Case:
        model = model or self.model
        watched = {module for _, method in self.methods() for module in method.watches(model)}
        units = units_of(prepared, self.preprocessing)
        return Case.of(model, self.preprocessing, self.calibration, prepared, list(watched), units)

    def methods(self) -> Iterator[tuple[str, Method]]:
        """Every method that suits the model, with its modality."""
        for modality, explanation in self.explanations.items():
            for method in explanation.methods:
                if method.suits(self.preprocessing.recipe):
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
        prepared, labels = dataset[number]
        _measure_study(bench, prepared, labels, number)
        if advance is not None:
            advance()
    return summarise(bench.ledger, findings.names, bootstrap=bootstrap, seed=seed)


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
    return _Bench(
        model=model,
        untrained=checks.untrained(model, preprocessing, findings, seed),
        noisy=checks.with_noisy_words(model, seed),
        preprocessing=preprocessing,
        calibration=calibration,
        findings=findings,
        explanations=explanations(preprocessing.recipe.modalities),
        truth=truth,
        mean_masks=_mean_masks(truth, cached, set(drawn.tolist()), findings) if truth is not None else {},
        seed=seed,
        ledger=Ledger(),
    )


def _mean_masks(
    truth: Truth, cached: CachedCohort, measured: set[int], findings: FindingSet
) -> dict[str, npt.NDArray[np.float32]]:
    """Where each finding usually lies, from positive studies that are not measured on."""
    sums: dict[str, list[npt.NDArray[np.float32]]] = {name: [] for name in findings.names}
    others = [row for row, study in enumerate(cached.studies) if study.images and row not in measured]
    for row in others[:_MOST_MASKS]:
        record = cached.cohort.records[row]
        masks = truth.masks(record.study_id)
        for name, label in zip(findings.names, record.labels, strict=True):
            if label == 1 and name in masks:
                sums[name].append(masks[name].astype(np.float32))
    return {name: np.mean(masks, axis=0) for name, masks in sums.items() if masks}


def _measure_study(bench: _Bench, prepared: Prepared, labels: npt.NDArray[np.float32], number: int) -> None:
    """All figures of one study into the ledger."""
    case = bench.case(prepared)
    weights = bench.weigh(case)
    positive = np.flatnonzero(labels == 1).tolist()
    _curves(bench, case, weights, positive, number)
    if number < MOST_CHECKED:
        _checks(bench, case, weights, number)
    if bench.truth is not None:
        maps = _maps(case, weights)
        _places(bench, bench.truth, case, maps, positive)
        _decisive(bench, bench.truth, case, weights | _random(case, bench, number))
        _twins(bench, case, weights, maps, list(bench.truth.twins(prepared, bench.preprocessing)))
        _modalities(bench, bench.truth, case)


def _patient(case: Case) -> str:
    return case.prepared.study.patient_id


def _random(case: Case, bench: _Bench, number: int) -> Weights:
    """Weights that know nothing: what every method must beat."""
    generator = np.random.default_rng((bench.seed, number))
    count, order = len(bench.findings), sorted(bench.explanations, key=_CELLS.__contains__)
    shapes = {modality: (len(case.units[modality]), *_CELLS.get(modality, ())) for modality in order}
    return {(part, RANDOM): generator.normal(size=(count, *shape)) for part, shape in shapes.items() if shape[0]}


def _curves(bench: _Bench, case: Case, weights: Weights, positive: Sequence[int], number: int) -> None:
    """Deletion and insertion, of the findings that the study has."""
    for (part, method), by_finding in (weights | _random(case, bench, number)).items():
        for position in positive:
            figures = deletion_and_insertion(case, bench.explanations[part], by_finding[position], position)
            subject = Subject(part, method, bench.findings.names[position])
            for metric, figure in zip(("deletion", "insertion"), figures, strict=True):
                bench.ledger.add(subject, metric, _patient(case), figure)


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
            bench.ledger.add(Subject(part, method, name), metric, _patient(case), alike)


def _maps(case: Case, weights: Weights) -> dict[str, list[npt.NDArray[np.float32]]]:
    """Method → the first image's map of each finding, in the pixels of the image."""
    part = case.prepared.parts.get("image")
    boxes = () if part is None else part.letterboxes
    return {
        method: [np.asarray(image_saliency(cells, boxes)[0].values) for cells in by_finding]
        for (part, method), by_finding in weights.items()
        if part == IMAGE
    }


def _places(
    bench: _Bench,
    truth: Truth,
    case: Case,
    maps: Mapping[str, Sequence[npt.NDArray[np.float32]]],
    positive: Sequence[int],
) -> None:
    """Mass in mask and pointing game, of the findings that the study has and that show in its image."""
    if not maps:
        return
    masks = truth.masks(case.prepared.study.study_id)
    for position in positive:
        name = bench.findings.names[position]
        mask = masks.get(name)
        if mask is None or not mask.any():
            continue
        candidates = {method: by_finding[position] for method, by_finding in maps.items()}
        candidates |= {AREA: np.ones(mask.shape, np.float32), CENTRE: centre_prior(mask.shape)}
        if name in bench.mean_masks:
            candidates[MEAN_MASK] = bench.mean_masks[name]
        for method, saliency in candidates.items():
            subject = Subject(IMAGE, method, name)
            bench.ledger.add(subject, "mass_in_mask", _patient(case), mass_in_mask(saliency, mask))
            bench.ledger.add(subject, "pointing", _patient(case), pointing(saliency, mask))


def _decisive(bench: _Bench, truth: Truth, case: Case, weights: Weights) -> None:
    """How well decisive words and values are told from the others.

    Words that explain a finding's image away, and age and sex, are neither decisive nor beside the point.
    """
    study = case.prepared.study
    fitted = case.preprocessing.preparations.get("observations")
    features = () if fitted is None else fitted.features
    names = np.array([features[position].name for position in case.units.get(OBSERVATIONS, ())], str)
    for position, finding in enumerate(bench.findings.names):
        aside = [passage for name in truth.confounders(finding) for passage in truth.passages(study, name)]
        found = {
            TEXT: (_said(case, truth.passages(study, finding)), ~_said(case, aside)),
            OBSERVATIONS: (np.isin(names, list(decisive_variables(finding))), ~np.isin(names, ["age", "sex"])),
        }
        for (part, method), by_finding in weights.items():
            if part in found:
                figure = average_precision(by_finding[position], *found[part])
                bench.ledger.add(Subject(part, method, finding), "auprc", _patient(case), figure)


def _said(case: Case, passages: Sequence[tuple[int, int, int]]) -> npt.NDArray[np.bool_]:
    """Which words lie in one of `passages`, bool [W]."""
    words = [word for word, _ in case.units.get(TEXT, ())]
    return np.array(
        [any(w.note == note and w.start < end and start < w.end for note, start, end in passages) for w in words], bool
    )


def _twins(
    bench: _Bench,
    case: Case,
    weights: Weights,
    maps: Mapping[str, Sequence[npt.NDArray[np.float32]]],
    twins: Sequence[Twin],
) -> None:
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
        for method, attributed in _attributed(case, weights, maps, twin, position):
            bench.ledger.add_twin(
                Subject(twin.part, method, twin.finding), _patient(case), attributed, fell, twin.oracle
            )


def _attributed(
    case: Case,
    weights: Weights,
    maps: Mapping[str, Sequence[npt.NDArray[np.float32]]],
    twin: Twin,
    position: int,
) -> Iterator[tuple[str, float]]:
    """Each method's weight of the evidence that `twin` lacks."""
    if twin.part == IMAGE:
        for method, by_finding in maps.items():
            yield method, float(np.nansum(by_finding[position][twin.pixels]))
        return
    if twin.passage is not None:
        where = _said(case, [twin.passage])
    else:
        where = np.array([feature == twin.feature for feature in case.units[OBSERVATIONS]])
    for (part, method), weighed in weights.items():
        if part == twin.part:
            yield method, float(weighed[position][where].sum())


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
                bench.ledger.add_twin(subject, _patient(case), weight, wanted[modality], wanted[modality])
