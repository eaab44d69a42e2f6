"""What the service answers.

`DiagnosisAnswer` is a `consilium.domain.diagnosis.Diagnosis` and what only the service knows of it; what an explanation
attributes to a modality is described by the modality.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler, create_model
from pydantic_core import CoreSchema, core_schema

from consilium.domain.diagnosis import AuditVerdict, Diagnosis, FindingExplanation, ModelIdentity, Neighbour
from consilium.domain.variables import Variable
from consilium.domain.wire import Share, Wire
from consilium.modalities.presentation import presentations
from consilium.modalities.registry import declared_limits, modality_names


class DiagnosisAnswer(Diagnosis):
    """The answer of `POST /v1/diagnose`."""

    result_id: UUID | None = None
    """Of this answer in the audit log, see `/v1/results/{result_id}`; null where the audit log was unavailable and the
    service is set to answer all the same."""
    caller_reference: str | None = None


class Parts:
    """Of each explained modality that the study has, a list of what in it is evidence."""

    __pydantic_config__ = ConfigDict(json_schema_serialization_defaults_required=False)

    @staticmethod
    def __get_pydantic_core_schema__(source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        del source
        fields = {
            modality: core_schema.typed_dict_field(
                handler.generate_schema(tuple[presentation.wire, ...]),  # type: ignore[name-defined]
                required=False,
            )
            for modality, presentation in presentations(modality_names()).items()
        }
        return core_schema.typed_dict_schema(fields, cls=Parts, extra_behavior="forbid")


@dataclass(frozen=True, slots=True)
class FindingExplanationAnswer(FindingExplanation):
    """The evidence for and against one finding, in calibrated log-odds."""

    parts: Annotated[dict[str, tuple[Any, ...]], Parts]
    """Per explained modality, what in it is evidence, in the coordinates of what was sent."""


class ExplanationAnswer(DiagnosisAnswer):
    """The answer of `POST /v1/explain`: the diagnosis, the evidence for it, and the nearest training cases."""

    explanations: tuple[FindingExplanationAnswer, ...]
    neighbours: tuple[Neighbour, ...]
    """Most similar first."""


class SimilarAnswer(DiagnosisAnswer):
    """The answer of `POST /v1/similar`: the nearest training cases, beside the diagnosis and its reservations.

    Every study has nearest cases, also one that is unlike all of them: see `out_of_distribution` and `refer_reasons`.
    """

    neighbours: tuple[Neighbour, ...]
    """Most similar first."""


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


if TYPE_CHECKING:

    class LimitInformation(Wire):
        """What one request may hold."""

        body_bytes: int

else:
    LimitInformation = create_model(
        "LimitInformation",
        __base__=Wire,
        __doc__="What one request may hold.",
        body_bytes=int,
        **{limit.name: (int, Field(description=limit.description)) for limit in declared_limits()},
    )


class RefusalAnswer(Wire):
    """A version that the alias stood for, and that the service did not take."""

    model: ModelIdentity
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
    canary: ModelIdentity | None = Field(description="The model that answers a share of the patients' studies.")
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

    model: ModelIdentity
    description: str
    findings: tuple[FindingInformation, ...]
    exclusive: bool
    reads: InputInformation
    trained_on: OriginInformation
    limits: LimitInformation
    audit: AuditVerdict
    backend: BackendInformation | None = Field(description="Null: the model was not checked.")
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
