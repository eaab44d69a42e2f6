"""What the service answers.

`DiagnosisAnswer` is a `consilium.domain.diagnosis.Diagnosis` and what only the service knows of it; what an explanation
attributes to a modality is described by the modality.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler, GetJsonSchemaHandler, create_model
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from consilium.domain.diagnosis import AuditVerdict, Diagnosis, FindingExplanation, ModelIdentity, Neighbour
from consilium.domain.found_cases import Found
from consilium.domain.report_draft import Draft
from consilium.domain.wire import Share, Wire
from consilium.modalities.presentation import presentations
from consilium.modalities.registry import declared_limits, modality_names
from consilium.modalities.weight_source import WeightSource


class DiagnosisAnswer(Diagnosis):
    """The answer of `POST /v1/diagnose`."""

    result_id: UUID | None = None
    """Of this answer in the audit log, see `/v1/results/{result_id}`; null where the audit log was unavailable and the
    service is set to answer all the same."""
    caller_reference: str | None = None


class _ByModality:
    """An object with a key for each modality, none of them required."""

    __pydantic_config__ = ConfigDict()

    @staticmethod
    def __get_pydantic_json_schema__(schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        described = handler(schema)
        handler.resolve_ref_schema(described).pop("required", None)
        return described


class Parts(_ByModality):
    """Of each explained modality that the study has, a list of what in it is evidence."""

    @staticmethod
    def __get_pydantic_core_schema__(source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        del source
        declared = presentations(modality_names()).items()
        return _by_modality(Parts, {modality: _several(one.wire) for modality, one in declared}, handler)


def _several(wire: Any) -> Any:
    return tuple[wire, ...]


def _by_modality(kind: type, types: Mapping[str, Any], handler: GetCoreSchemaHandler) -> CoreSchema:
    """An object with a key for each modality, none of them required, described as `kind`."""
    fields = {
        modality: core_schema.typed_dict_field(handler.generate_schema(wire), required=False)
        for modality, wire in types.items()
    }
    return core_schema.typed_dict_schema(fields, cls=kind, extra_behavior="forbid")


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


class DraftAnswer(DiagnosisAnswer):
    """The answer of `POST /v1/draft`: a draft of a report, beside the diagnosis that it puts into words."""

    draft: Draft


class SimilarAnswer(DiagnosisAnswer):
    """The answer of `POST /v1/similar`: the nearest training cases, beside the diagnosis and its reservations.

    Every study has nearest cases, also one that is unlike all of them: see `out_of_distribution` and `refer_reasons`.
    """

    neighbours: tuple[Neighbour, ...]
    """Most similar first."""


class SearchAnswer(Found):
    """The answer of `POST /v1/search`: cases and sentences of the search index, and no diagnosis."""

    result_id: UUID | None = None
    """Of this answer in the audit log, see `/v1/results/{result_id}`; null where the audit log was unavailable and the
    service is set to answer all the same."""
    caller_reference: str | None = None


class FindingInformation(Wire):
    """One finding that the model gives a probability for."""

    name: str
    display: str
    code: str | None


class TargetInformation(Wire):
    """A grade or a time to an event that the model answers beside the findings."""

    name: str
    display: str
    grades: tuple[str, ...] | None = None
    """From the least; null: it is a time."""
    horizons: tuple[float, ...] | None = None
    """The times that are answered for; null: it is a grade."""
    unit: str | None = None
    """Of the horizons."""


class Information(_ByModality):
    """Of each modality that the model reads, what in it is read, and how."""

    @staticmethod
    def __get_pydantic_core_schema__(source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        del source
        declared = presentations(modality_names()).items()
        types = {modality: one.information for modality, one in declared if one.information is not None}
        return _by_modality(Information, types, handler)


class InputInformation(Wire):
    """Which records the model reads."""

    modalities: tuple[str, ...]
    before_hours: float
    """A record may be as old at the reference time; older ones are left out."""
    after_hours: float
    parts: Annotated[dict[str, Any], Information]


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
    shadow: ModelIdentity | None = Field(
        default=None, description="The model that answers copies of studies, to be compared; nobody gets its answers."
    )


class BackendInformation(Wire):
    """What runs the network, and how it answered the model's reference studies beside plain float32."""

    name: str = Field(description="`eager`, `bf16`, `openvino` or `openvino-bf16`.")
    reference_studies: int = Field(description="Made-up studies in the artifact that were answered when it was loaded.")
    largest_deviation: Share = Field(description="Of a probability by this backend from the plain model's.")
    flipped: int = Field(description="Of these studies, those with another call or prediction set, within the margin.")
    bound: Share = Field(description="`largest_deviation` that would have been refused, were it exceeded.")
    margin: Share = Field(description="Likewise of a study with another call or prediction set.")


class SearchInformation(Wire):
    """What `POST /v1/search` searches."""

    encoders: ModelIdentity
    index_digest: str = Field(description="SHA-256 of the manifest of the search index.")
    modalities: tuple[str, ...] = Field(description="What can be searched with.")
    findings: tuple[str, ...] = Field(description="What `labels` of a request may name.")
    cases: int
    sentences: int


class ModelInformation(Wire):
    """The answer of `GET /v1/model`."""

    model: ModelIdentity
    description: str
    findings: tuple[FindingInformation, ...]
    exclusive: bool
    targets: tuple[TargetInformation, ...] = Field(default=(), description="Answered beside the findings.")
    reads: InputInformation
    limits: LimitInformation
    weights: dict[str, tuple[WeightSource, ...]] = Field(
        description="Of each modality whose encoder began from pretrained weights: where these came from."
    )
    audit: AuditVerdict
    backend: BackendInformation | None = Field(description="Null: the model was not checked.")
    card: str | None = Field(
        description="The model's card, relative to this path: for people: intended use, cohort, evaluation, limits."
    )
    search: SearchInformation | None = Field(default=None, description="Null: the service has no search index.")
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
