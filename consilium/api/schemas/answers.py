"""What the service answers.

`DiagnosisAnswer` and `ExplanationAnswer` mirror `Diagnosis.to_json` and `Explanation.to_json` key by key, and hold what
only the service knows.
"""

from __future__ import annotations

import math
from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from consilium.api.schemas.base import Wire
from consilium.domain.variables import Variable

Share = Annotated[float, Field(ge=0, le=1)]
"""A probability, or a share of something."""


class EstimateAnswer(Wire):
    """A figure with its 95 % interval."""

    value: float
    low: float
    high: float


class OperatingPointAnswer(Wire):
    """The probability from which a finding is called, and what that costs on the calibration split."""

    threshold: float
    target_sensitivity: float
    sensitivity: EstimateAnswer
    specificity: EstimateAnswer


class FindingAnswer(Wire):
    """What the model says of one finding."""

    finding: str
    display: str
    code: str | None = Field(description="SNOMED CT concept, where there is one.")
    probability: Share = Field(description="Calibrated, of all modalities that were present.")
    call: bool = Field(description="The probability reaches the operating point.")
    operating_point: OperatingPointAnswer
    opinions: dict[str, Share] = Field(description="Calibrated probability that each modality gives alone.")
    interval: tuple[Share, Share] = Field(
        description="Of the probability (Venn-Abers): what it would be had this study been calibrated on, with the "
        "finding absent and with it present."
    )
    prediction_set: tuple[Literal["absent", "present"], ...] = Field(
        description="What cannot be ruled out at the coverage that the model was calibrated for. Both: the model "
        "cannot tell. None: the study is unlike either."
    )
    refer: tuple[str, ...] = Field(
        description="Why a human must judge this finding without the model; empty where the model may be heard on it."
    )


class ModelIdentityAnswer(Wire):
    """Which model answered."""

    name: str
    version: str
    manifest_digest: str = Field(description="SHA-256 of the artifact's manifest.")


class NoveltyAnswer(Wire):
    """How unlike the training data one part of the study is."""

    part: str = Field(description="A modality, or `fused`: all of them together.")
    score: float = Field(description="Higher is stranger; comparable between studies of one model and part only.")
    p_value: Share = Field(description="Share of ordinary studies that are at least as strange.")
    novel: bool = Field(description="`p_value` is below the rate that the model's recipe allows.")


class AuditAnswer(Wire):
    """What the audit found of the cohort that the model learned from."""

    verdict: Literal["sound", "suspect", "unusable", "not audited"]
    reasons: tuple[str, ...] = Field(description="One sentence each; empty where the cohort is sound.")


class DiagnosisAnswer(Wire):
    """The answer of `POST /v1/diagnose`."""

    result_id: UUID | None = Field(
        default=None,
        description="Of this answer in the record, see `/v1/results/{result_id}`; null where the record was down and "
        "the service is set to answer all the same.",
    )
    findings: tuple[FindingAnswer, ...]
    exclusive: bool = Field(description="The findings exclude each other; their probabilities add up to 1.")
    modalities: tuple[str, ...] = Field(description="What the model had to go by.")
    model: ModelIdentityAnswer
    input_digests: dict[str, str] = Field(description="SHA-256 of every record received, by position.")
    warnings: tuple[str, ...] = Field(description="What the reader must know of the input.")
    novelty: tuple[NoveltyAnswer, ...] = Field(description="For each modality that was present, and for all together.")
    refer: tuple[str, ...] = Field(
        description="Why a human must judge this study without the model; empty where the model may be heard on the "
        "findings that are not referred themselves."
    )
    audit: AuditAnswer
    caller_reference: str | None = None


class Peak(Wire):
    """The pixel with the strongest evidence for the finding, by row and column of the file that was sent."""

    row: int
    column: int
    value: float


class Overlay(Wire):
    """A saliency map as a picture to lay over the image that was sent.

    A palette PNG with transparency, in the pixel grid of the file that was sent, as viewers turn it, also where its
    pixels are not square: blue speaks against the finding, red for it.
    The palette index carries the value: index 0 is where the model did not look, otherwise value = (index − 128) / 127
    × `scale`.
    """

    media_type: Literal["image/png"] = "image/png"
    rows: int
    columns: int
    scale: float = Field(description="Largest absolute log-odds per feature-map cell.")
    data: str = Field(description="Base64.")


class SaliencyAnswer(Wire):
    """Where in one image the evidence for one finding lies."""

    image: int = Field(description="Position among the images sent.")
    cells: tuple[int, int] = Field(description="Rows and columns of the feature map that was read.")
    peak: Peak | None = Field(description="Absent where the model looked at no part of the image.")
    overlay: Overlay


class WordAnswer(Wire):
    """What one word of a note spoke for, in log-odds.

    `start` and `end` count characters of that note in Unicode NFC, trimmed, with line feeds as line ends and without
    control characters.
    """

    note: int
    start: int
    end: int
    text: str
    weight: float


class ReferenceAnswer(Wire):
    """A value beside its reference interval, both in the unit that the variable is kept in."""

    value: float
    low: float
    high: float
    unit: str
    log_scale: bool = Field(description="Spread over decades: to be drawn by its logarithm.")


class ObservationAnswer(Wire):
    """What one observation spoke for, in log-odds."""

    variable: str
    display: str
    value: str
    unit: str
    weight: float
    aspect: Literal["value", "age", "change"] = Field(
        default="value",
        description="What of the variable was weighed: its last value, how old that is, or how it changed since the "
        "one before.",
    )
    reference: ReferenceAnswer | None = Field(
        default=None, description="Null where the variable has no reference interval."
    )


class FindingExplanationAnswer(Wire):
    """What spoke for and against one finding."""

    finding: str
    log_odds: float
    prior_log_odds: float
    modalities: dict[str, float] = Field(
        description="Exact Shapley value per present modality; with `prior_log_odds` they add up to `log_odds`."
    )
    images: tuple[SaliencyAnswer, ...]
    words: tuple[WordAnswer, ...]
    observations: tuple[ObservationAnswer, ...]
    methods: dict[str, str]


class NeighbourAnswer(Wire):
    """A study of the training data that the model sees as like this one."""

    pseudonym: str = Field(description="Names the study to those who hold the cohort, and to nobody else.")
    similarity: float = Field(description="Cosine of the fused states, -1 to 1.")
    labels: dict[str, bool | None] = Field(description="Each finding of that study; null: not known.")
    modalities: tuple[str, ...] = Field(description="What that study had.")


class ExplanationAnswer(DiagnosisAnswer):
    """The answer of `POST /v1/explain`: the diagnosis, what spoke for it, and the nearest training cases."""

    explanations: tuple[FindingExplanationAnswer, ...]
    neighbours: tuple[NeighbourAnswer, ...] = Field(description="Most alike first.")


class SimilarAnswer(DiagnosisAnswer):
    """The answer of `POST /v1/similar`: the nearest training cases, beside the diagnosis and its reservations.

    Every study has nearest cases, one that is like none of them, too: `novelty` and `refer` tell.
    """

    neighbours: tuple[NeighbourAnswer, ...] = Field(description="Most alike first.")


class FindingInformation(Wire):
    """One finding that the model gives a probability for."""

    name: str
    display: str
    code: str | None


Interval = tuple[float, float]


class CodeInformation(Wire):
    """A code under which a variable is accepted."""

    code: str
    system: str = Field(description="`LOINC`, or `local` for a code of the cohort that the model learned from.")
    unit: str = Field(description="UCUM unit of its values; others that convert are accepted. Empty for categories.")
    display: str


class VariableInformation(Wire):
    """A laboratory value, vital sign or other variable that the model reads."""

    name: str
    display: str
    kind: Literal["numeric", "categorical", "yes_no"]
    codes: tuple[CodeInformation, ...]
    unit: str = Field(description="UCUM unit in which the value is kept and read; empty for categories.")
    categories: tuple[str, ...] = Field(description="Accepted values, lowest first where they have an order.")
    ordered: bool
    normal_categories: tuple[str, ...]
    reference: Interval | None = Field(description="Adult reference interval in `unit`, both sexes together.")
    reference_female: Interval | None = Field(description="Where it differs.")
    reference_male: Interval | None = Field(description="Where it differs.")
    plausible: tuple[float | None, float | None] = Field(
        description="A living patient's value lies within; others are not read. Null: no limit."
    )

    @classmethod
    def of(cls, variable: Variable) -> VariableInformation:
        """What is told of `variable`."""
        low, high = variable.plausible_low, variable.plausible_high
        return cls(
            name=variable.name,
            display=variable.display,
            kind=variable.kind.value,
            codes=tuple(
                CodeInformation(code=c.code, system=c.system, unit=c.unit, display=c.long_name or variable.display)
                for c in variable.codes
            ),
            unit=variable.unit,
            categories=variable.categories,
            ordered=variable.ordered,
            normal_categories=variable.normal_categories,
            reference=variable.reference,
            reference_female=variable.female,
            reference_male=variable.male,
            plausible=(low if math.isfinite(low) else None, high if math.isfinite(high) else None),
        )


class InputInformation(Wire):
    """Which records the model reads."""

    modalities: tuple[str, ...]
    note_kinds: tuple[str, ...]
    mask_notes: bool = Field(
        description="Whether names, dates, identifiers, telephone numbers and addresses of notes are masked before the "
        "model reads them."
    )
    before_hours: float
    after_hours: float
    variables: tuple[VariableInformation, ...] = Field(
        description="What it reads of the observations. Other codes are left out with a warning."
    )
    history: int = Field(
        description="1: the last value of each variable; 2: also how old it is, and how it changed since the one "
        "before."
    )


class OriginInformation(Wire):
    """What the files of the training images say that they show, as counts of images.

    An image whose file says something else is warned of, and referred where the recipe says so.
    """

    images: int
    modality: dict[str, int] = Field(description="DICOM Modality, most frequent first; empty where no file names one.")
    body_part: dict[str, int] = Field(description="Likewise Body Part Examined.")
    for_processing: int = Field(description="Images that are FOR PROCESSING.")


class LimitInformation(Wire):
    """What one request may hold."""

    body_bytes: int
    images: int
    image_bytes: int
    image_pixels: int
    notes: int
    note_characters: int
    observations: int


class RefusalAnswer(Wire):
    """A version that the alias stood for, and that the service did not take."""

    model: ModelIdentityAnswer
    reason: Literal["digest", "format", "load", "memory", "findings", "modalities", "answers"]
    detail: str
    time: datetime


class DeploymentInformation(Wire):
    """Which model answers whom, and how it may change."""

    follows: str | None = Field(description="The alias whose moves the service follows; null: the model is fixed.")
    since: datetime = Field(description="When the model began to serve, UTC.")
    registry: Literal["reachable", "unreachable"] | None = Field(
        description="Whether the registry answered when last asked; null: it is not asked."
    )
    last_refusal: RefusalAnswer | None
    canary: ModelIdentityAnswer | None = Field(description="The model that answers a share of the patients' studies.")
    canary_share: Share


class BackendInformation(Wire):
    """What runs the network, and how it answered the model's reference studies beside plain float32."""

    name: str = Field(description="`eager`, `bf16`, `openvino`, `openvino-bf16` or `openvino-int8`.")
    reference_studies: int = Field(description="Made-up studies in the artifact that were answered when it was loaded.")
    largest_deviation: Share = Field(description="Of a probability by this backend from the plain model's.")
    flipped: int = Field(description="Of these studies, those with another call or prediction set, within the margin.")
    bound: Share = Field(description="`largest_deviation` that would have been refused, were it exceeded.")
    margin: Share = Field(description="Likewise of a study with another call or prediction set.")


class ModelInformation(Wire):
    """The answer of `GET /v1/model`."""

    model: ModelIdentityAnswer
    description: str
    findings: tuple[FindingInformation, ...]
    exclusive: bool
    reads: InputInformation
    trained_on: OriginInformation
    limits: LimitInformation
    audit: AuditAnswer
    backend: BackendInformation | None = Field(description="Null: the model was not asked.")
    card: str | None = Field(
        description="The model's card, relative to this path: for people: intended use, cohort, evaluation, limits."
    )
    deployment: DeploymentInformation


class ProblemAnswer(BaseModel):
    """An error (RFC 9457). `field`, `value` and `rule` are there where the input broke a rule."""

    model_config = ConfigDict(frozen=True)

    type: str
    title: str
    status: int
    detail: str
    instance: str = Field(description="This occurrence, as a `urn:uuid`; it stands in the service's log.")
    field: str | None = None
    value: str | None = Field(default=None, description="What was received, shortened.")
    rule: str | None = None
