"""Answers of the service become Diagnosis and Explanation again, so that a caller can print them and make reports."""

from __future__ import annotations

import base64
import io

import numpy as np
import numpy.typing as npt
from PIL import Image as Pillow

from consilium.api.schemas import (
    DiagnosisAnswer,
    ExplanationAnswer,
    FindingAnswer,
    FindingExplanationAnswer,
    NeighbourAnswer,
    ObservationAnswer,
    Overlay,
    SaliencyAnswer,
)
from consilium.domain.diagnosis import (
    AuditVerdict,
    Diagnosis,
    Explanation,
    FindingExplanation,
    FindingResult,
    ImageSaliency,
    ModelIdentity,
    Neighbour,
    Novelty,
    ObservationWeight,
    OperatingPoint,
    Reference,
    WordWeight,
)
from consilium.domain.findings import Finding

_UNSEEN, _ZERO, _STEPS = 0, 128, 127  # of an overlay's palette, as `Overlay` says


def read_explanation(answer: ExplanationAnswer) -> Explanation:
    """What the service said; saliency in the 255 steps of its overlay."""
    findings = {finding.finding: _finding(finding) for finding in answer.findings}
    explained = tuple(_explained(one, findings[one.finding]) for one in answer.explanations)
    return Explanation(read_diagnosis(answer), explained, tuple(_neighbour(one) for one in answer.neighbours))


def read_diagnosis(answer: DiagnosisAnswer) -> Diagnosis:
    """What the service said."""
    return Diagnosis(
        findings=tuple(_result(finding) for finding in answer.findings),
        exclusive=answer.exclusive,
        modalities=tuple(name for name in answer.modalities),
        model=ModelIdentity(**answer.model.model_dump()),
        input_digests=dict(answer.input_digests),
        warnings=answer.warnings,
        novelty=tuple(Novelty(**part.model_dump()) for part in answer.novelty),
        refer=answer.refer,
        audit=AuditVerdict(answer.audit.verdict, answer.audit.reasons),
    )


def _finding(answer: FindingAnswer) -> Finding:
    return Finding(answer.finding, answer.display, answer.code)


def _result(answer: FindingAnswer) -> FindingResult:
    opinions = dict(answer.opinions)
    point = OperatingPoint.from_json(answer.operating_point.model_dump())
    return FindingResult(
        finding=_finding(answer),
        probability=answer.probability,
        call=answer.call,
        operating_point=point,
        opinions=opinions,
        interval=answer.interval,
        prediction_set=answer.prediction_set,
        refer=answer.refer,
    )


def _neighbour(answer: NeighbourAnswer) -> Neighbour:
    modalities = tuple(name for name in answer.modalities)
    return Neighbour(answer.pseudonym, answer.similarity, dict(answer.labels), modalities)


def _explained(answer: FindingExplanationAnswer, finding: Finding) -> FindingExplanation:
    return FindingExplanation(
        finding=finding,
        log_odds=answer.log_odds,
        prior_log_odds=answer.prior_log_odds,
        modalities=dict(answer.modalities),
        parts={
            "image": tuple(_saliency(image) for image in answer.images),
            "text": tuple(WordWeight(**word.model_dump()) for word in answer.words),
            "observations": tuple(_observation(observation) for observation in answer.observations),
        },
        methods=dict(answer.methods),
    )


def _observation(answer: ObservationAnswer) -> ObservationWeight:
    reference = None if answer.reference is None else Reference(**answer.reference.model_dump())
    return ObservationWeight(**{**answer.model_dump(), "reference": reference})


def _saliency(answer: SaliencyAnswer) -> ImageSaliency:
    return ImageSaliency(answer.image, _values(answer.overlay), answer.cells)


def _values(overlay: Overlay) -> npt.NDArray[np.float32]:
    with Pillow.open(io.BytesIO(base64.b64decode(overlay.data)), formats=["PNG"]) as picture:
        indices = np.asarray(picture)
    values = (indices.astype(np.float32) - _ZERO) / _STEPS * np.float32(overlay.scale)
    return np.where(indices == _UNSEEN, np.float32(np.nan), values)
