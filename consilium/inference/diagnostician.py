"""Diagnostician: a model and everything it needs, in one object that takes studies and gives diagnoses.

Command line, service and evaluation of a registered model all call this; none of them preprocesses anything.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from consilium.artifacts.artifact import Artifact, load_artifact
from consilium.artifacts.model_registry import resolve
from consilium.configuration.recipe import Recipe
from consilium.domain.diagnosis import (
    ABSENT,
    PRESENT,
    Answer,
    AuditVerdict,
    Diagnosis,
    Explanation,
    FindingResult,
    GradeResult,
    ModelIdentity,
    Neighbour,
    OutOfDistributionScore,
    SurvivalResult,
)
from consilium.domain.errors import InputError, ModelFailure
from consilium.domain.findings import FindingSet
from consilium.domain.study import Study
from consilium.domain.variables import VariableTable
from consilium.explain import explain
from consilium.explain.methods import chosen_methods
from consilium.inference.backends import Network, build_network, choose_backend
from consilium.inference.self_test import Acceptance, Backend, Tolerance, accept, require_trained_answers
from consilium.inference.target_results import target_results
from consilium.modalities.converter import Converter
from consilium.modalities.registry import in_order, modality_names, subset_key
from consilium.modalities.weight_source import WeightSource
from consilium.network.diagnosis_model import FUSED, Logits
from consilium.preprocessing.batch import Batch, Prepared
from consilium.preprocessing.collate import converters
from consilium.referral.out_of_distribution import Inputs
from consilium.referral.reasons import Grounds, refer, refer_finding

_ANSWERS: tuple[Answer, ...] = (ABSENT, PRESENT)

NEIGHBOURS = 5
"""Training cases that an explanation shows."""


def choose_device(name: str = "auto") -> torch.device:
    """``auto``: the first GPU where there is one, else the CPU.

    Raises
    ------
    InputError
        For a device that torch does not know or that is not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.zeros(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise InputError(
            "device", name, f"must be auto, cpu or a GPU of this machine ({type(error).__name__})"
        ) from None


@dataclass(frozen=True, slots=True, eq=False)
class _Beside:
    """What is known of B studies beside their logits, by part; NaN where a study lacks it.

    Attributes
    ----------
    scores : dict of str to float [B]
        Out-of-distribution scores; nothing where the model has no detector.
    projections : dict of str to float32 [B, k]
        For monitoring; nothing where the model has no reference for it.
    """

    scores: dict[str, npt.NDArray[np.float64]]
    projections: dict[str, npt.NDArray[np.float32]]


class Diagnostician:
    """Answers for studies with one model on one device.

    Not safe to call from several threads at once; the service runs it on one.

    Parameters
    ----------
    backend : str
        What runs the network: ``auto`` or a `consilium.inference.self_test.Backend`. Explanations are made by the
        plain model, and show the probability that the backend gives.
    threads : int, optional
        Of a backend with threads of its own; None: as many as torch has here.

    Attributes
    ----------
    acceptance : Acceptance or None
        What `accept` found; None before.
    variables : VariableTable
        What studies must be read with: the built-in variables, and those of the cohort that the model learned from.
    converters : mapping of str to Converter
        What the preparations of the modalities in it read of single records.
    network : Network
        The model as its backend runs it; without gradients.

    Raises
    ------
    InputError
        Where there is no such backend, or it cannot run this model on this device.
    """

    def __init__(
        self,
        artifact: Artifact,
        identity: ModelIdentity,
        device: torch.device | None = None,
        backend: str = "auto",
        threads: int | None = None,
    ) -> None:
        self.identity = identity
        self.device = device or torch.device("cpu")
        self.recipe: Recipe = artifact.recipe
        self.findings: FindingSet = artifact.findings
        self.details = artifact.details
        self.audit: AuditVerdict = artifact.audit
        self.card: dict[str, str] = artifact.card
        self.detector = None if artifact.detector is None else artifact.detector.to(self.device)
        self.neighbours = artifact.neighbours
        self.monitoring = artifact.monitoring
        self.calibration = artifact.calibration
        self._measured: dict[str, dict[str, str]] = artifact.details.get("explanations", {})
        self.preprocessing = artifact.preprocessing
        self.variables: VariableTable = artifact.preprocessing.variables
        self.converters: Mapping[str, Converter] = converters(self.recipe.modalities)
        self.model = artifact.model.to(self.device).eval().requires_grad_(requires_grad=False)
        self.model.freeze_cache()
        self.references = artifact.references
        self.acceptance: Acceptance | None = None
        self.backend = choose_backend(backend, self.device)
        self.network = build_network(self.backend, self.model, threads)

    @classmethod
    def load(cls, source: str | Path, device: str = "auto", backend: str = "auto") -> Diagnostician:
        """Load an artifact folder or a ``models:/name@alias`` URI, verified against its manifest.

        Raises
        ------
        ArtifactError, RegistryError
            Where there is no such model, or it was altered.
        """
        where = choose_device(device)
        resolved = resolve(str(source))
        return cls(load_artifact(resolved.folder), resolved.identity, where, backend)

    def accept(self, tolerance: Tolerance, batch_size: int = 8) -> Acceptance:
        """Answer the reference studies, as the plain model and as the backend does.

        Raises
        ------
        WrongAnswers
            Where the answers are off by more than `tolerance` allows.
        ModelFailure
            Where there are none.
        """
        items = [self.prepare(reference.study(self.variables)) for reference in self.references.studies]
        batches = [items[start : start + batch_size] for start in range(0, len(items), batch_size)]
        plain = self._plain()
        trained = [answer for batch in batches for answer in self._answers(batch, plain)]
        require_trained_answers(trained, self.references.probabilities, tolerance)
        served = [answer for batch in batches for answer in self._answers(batch, self.network)]
        self.acceptance = accept(self.backend, trained, served, tolerance)
        return self.acceptance

    @property
    def information(self) -> dict[str, Any]:
        """What ``GET /v1/model`` says of each modality that the model reads, of its presentation's `information`."""
        preparations = self.preprocessing.preparations.items()
        found = {name: preparation.information(self.recipe.modalities[name]) for name, preparation in preparations}
        return {name: facts for name, facts in found.items() if facts is not None}

    @property
    def weights(self) -> dict[str, tuple[WeightSource, ...]]:
        """Of each modality whose encoder began from pretrained weights, where these came from."""
        return self.preprocessing.weight_sources

    def example(self) -> Study:
        """A made-up study with everything that the model reads: the fullest of its reference studies."""
        studies = [reference.study(self.variables) for reference in self.references.studies]
        return max(studies, key=lambda study: len(self.prepare(study).present))

    def prepare(self, study: Study) -> Prepared:
        """What the model reads of `study`; `InputError` where that is nothing."""
        return self.preprocessing.prepare(study)

    def diagnose(self, studies: Sequence[Study]) -> list[Diagnosis]:
        """One diagnosis per study, from one batch."""
        return self.diagnose_prepared([self.prepare(study) for study in studies])

    def diagnose_prepared(self, items: Sequence[Prepared]) -> list[Diagnosis]:
        """The same for studies that `prepare` has seen."""
        if not items:
            return []
        batch, logits = self._forward(items)
        beside = self._beside(batch, logits)
        return [self._diagnosis(item, logits, beside, row) for row, item in enumerate(items)]

    def require_explainable(self, findings: Sequence[str] | None, level: str) -> None:
        """`InputError` where `explain` would refuse a finding or the level: before the work for the answer."""
        for name in findings or ():
            self.findings.index(name)
        chosen_methods(self.recipe, self._measured, level)

    def explain(self, study: Study, findings: Sequence[str] | None = None, level: str = "fast") -> Explanation:
        """Diagnose `study` and explain the evidence for each of `findings` (all by default).

        Raises
        ------
        InputError
            For an unknown finding or level (see `consilium.explain.LEVELS`).
        """
        return self.explain_prepared(self.prepare(study), findings, level)

    def explain_prepared(
        self, item: Prepared, findings: Sequence[str] | None = None, level: str = "fast"
    ) -> Explanation:
        """The same for a study that `prepare` has seen."""
        names = self.findings.names if findings is None else tuple(findings)
        with self._autocast():
            explained, logits = explain(
                self.model,
                self.preprocessing,
                self.calibration,
                item,
                self.findings,
                names,
                level,
                chosen_methods(self.recipe, self._measured, level),
            )
        batch = self.preprocessing.collate([item]).to(self.device)
        if self.backend is not Backend.EAGER:  # whose answer is another by its rounding, and the one that is given
            batch, logits = self._forward([item])
        diagnosis = self._diagnosis(item, logits, self._beside(batch, logits), 0)
        return Explanation(diagnosis, explained, self._nearest(logits))

    def similar_prepared(self, item: Prepared, count: int = NEIGHBOURS) -> Explanation:
        """Diagnose a study that `prepare` has seen, and find the `count` training cases that are most like it.

        Explained by cases alone, without explanations of single findings. Without cases where the model has none.
        """
        batch, logits = self._forward([item])
        return Explanation(
            self._diagnosis(item, logits, self._beside(batch, logits), 0), (), self._nearest(logits, count)
        )

    def _nearest(self, logits: Logits, count: int = NEIGHBOURS) -> tuple[Neighbour, ...]:
        if self.neighbours is None:
            return ()
        return self.neighbours.nearest(_row(logits.features[FUSED], 0)[0], count)

    @torch.inference_mode()
    def _forward(self, items: Sequence[Prepared]) -> tuple[Batch, Logits]:
        batch = self.preprocessing.collate(items).to(self.device)
        return batch, self.network(batch)

    @torch.inference_mode()
    def _answers(self, items: Sequence[Prepared], network: Network) -> list[tuple[FindingResult, ...]]:
        """What `network` answers for every finding of each of `items`, from one batch."""
        logits = network(self.preprocessing.collate(items).to(self.device))
        return [self._results(logits, row, _present(item)) for row, item in enumerate(items)]

    def _plain(self) -> Network:
        """The model in eager float32 on the CPU, which the reference studies were answered by."""
        if self.device.type == "cpu":
            return self.model
        model = copy.deepcopy(self.model).cpu()
        return lambda batch: model(batch.to("cpu"))

    def _autocast(self) -> torch.autocast:
        """Explanations take bfloat16 on a GPU, where its backend does, and float32 on the CPU."""
        enabled = self.device.type == "cuda" and self.backend is Backend.BF16
        return torch.autocast(self.device.type, torch.bfloat16, enabled=enabled)

    @torch.inference_mode()
    def _beside(self, batch: Batch, logits: Logits) -> _Beside:
        scores, projections = {}, {}
        if self.detector is not None:
            scores = self.detector.score(Inputs.of(batch, logits.features))
        if self.monitoring is not None:
            features = {part: values.float().cpu().numpy() for part, values in logits.features.items()}
            projections = self.monitoring.project(features)
        return _Beside({part: values.double().cpu().numpy() for part, values in scores.items()}, projections)

    def _diagnosis(self, item: Prepared, logits: Logits, beside: _Beside, row: int) -> Diagnosis:
        present = _present(item)
        results = self._results(logits, row, present)
        grades, survival = self._of_targets(logits, row, subset_key(present))
        unusual = self._out_of_distribution({part: float(values[row]) for part, values in beside.scores.items()})
        diagnosis = Diagnosis(
            findings=results,
            exclusive=self.findings.exclusive,
            modalities=present,
            absent=tuple(m for m in in_order(self.recipe.modalities) if m not in present),
            model=self.identity,
            input_digests=item.study.input_digests(),
            warnings=item.warnings,
            out_of_distribution=unusual,
            refer_reasons=refer(self.recipe.refer, Grounds(item, present, results, unusual, self.audit)),
            audit=self.audit,
            grades=grades,
            survival=survival,
        )
        projections = {part: tuple(values[row].tolist()) for part, values in beside.projections.items()}
        return diagnosis.with_projections({part: one for part, one in projections.items() if np.isfinite(one).all()})

    def _of_targets(
        self, logits: Logits, row: int, subset: str
    ) -> tuple[tuple[GradeResult, ...], tuple[SurvivalResult, ...]]:
        """The answers for the targets beside the findings; none where there are none."""
        if logits.steps is None or self.calibration.steps is None:
            return (), ()
        steps = _row(logits.steps, row)
        self._require_finite(steps)
        return target_results(self.findings.targets, self.calibration.steps.passed(steps, subset)[0])

    def _require_finite(self, answers: npt.NDArray[np.float64]) -> None:
        if not np.isfinite(answers).all():
            raise ModelFailure(f"{self.identity.name} version {self.identity.version} gave no finite answer")

    def _results(self, logits: Logits, row: int, present: tuple[str, ...]) -> tuple[FindingResult, ...]:
        fused, subset = _row(logits.fused, row), subset_key(present)
        self._require_finite(fused)
        calibration = self.calibration
        probabilities = calibration.probabilities(fused, subset)[0]
        intervals = calibration.intervals(fused, subset)[0]
        possible = calibration.prediction_sets(fused, subset)[0]
        unimodal = {m: calibration.unimodal_probabilities(_row(logits.unimodal[m], row), m)[0] for m in present}
        results = []
        for position, finding in enumerate(self.findings):
            point = calibration.operating_points[position]
            probability = float(probabilities[position])
            low, high = intervals[position].tolist()
            answers = tuple(a for a, stays in zip(_ANSWERS, possible[position], strict=True) if stays)
            results.append(
                FindingResult(
                    finding=finding.name,
                    display=finding.display,
                    code=finding.code,
                    probability=probability,
                    call=probability >= point.threshold,
                    operating_point=point,
                    unimodal_probabilities={modality: float(own[position]) for modality, own in unimodal.items()},
                    interval=(low, high),
                    prediction_set=answers,
                    refer_reasons=refer_finding(self.recipe.refer, answers, calibration.conformal.coverage),
                )
            )
        return tuple(results)

    def _out_of_distribution(self, scores: dict[str, float]) -> tuple[OutOfDistributionScore, ...]:
        rate = self.recipe.refer.out_of_distribution
        return () if self.detector is None or rate is None else self.detector.results(scores, rate)


def _row(logits: torch.Tensor, row: int) -> npt.NDArray[np.float64]:
    return logits[row : row + 1].double().cpu().numpy()


def _present(item: Prepared) -> tuple[str, ...]:
    return tuple(modality for modality in modality_names() if modality in item.present)
