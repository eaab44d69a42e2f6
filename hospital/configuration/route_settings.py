"""What becomes of a study: which route it takes, when it is complete, and where results go."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from consilium.api.schemas import MAX_GROUP
from hospital.configuration.network_settings import ClientTls, PeerAddress
from hospital.configuration.strict_section import Duration, Name, StrictSection

DicomObject = Literal["sr", "sc", "seg"]
Objects = Annotated[tuple[DicomObject, ...], Field(min_length=1)]


class Completeness(StrictSection):
    """When everything of a study is there."""

    quiet: Duration = Field(default="60s", validate_default=True)
    """Nothing arrived for as long."""
    proofs: frozenset[Literal["count_of_source", "mpps", "views"]] = frozenset({"count_of_source"})
    """One of these must hold as well: the source has as many instances as we, a performed procedure step names them
    all, or every view that `views` lists is there."""
    views: frozenset[str] = frozenset()
    deadline: Duration = Field(default="30m", validate_default=True)
    """After it the study goes on without a proof, with a warning."""

    @model_validator(mode="after")
    def _provable(self) -> Completeness:
        if "views" in self.proofs and not self.views:
            raise ValueError("must list views: they are named as a proof")
        if self.deadline < self.quiet:
            raise ValueError("deadline must not be shorter than quiet")
        return self


class DeliverySettings(StrictSection):
    """How results are delivered, whatever their destination."""

    give_up: Duration = Field(default="7d", validate_default=True)
    """What could not be delivered for so long becomes a dead letter: `consilium gateway outbox` lists it."""


class AgeRange(StrictSection):
    """Of the patient at the time of the study, in years."""

    at_least: float = Field(default=0.0, ge=0, le=150)
    below: float = Field(default=151.0, gt=0, le=151)

    @model_validator(mode="after")
    def _in_order(self) -> AgeRange:
        if self.at_least >= self.below:
            raise ValueError("at_least must be less than below")
        return self


class Conditions(StrictSection):
    """What an image must say of itself; a list that is empty asks nothing, of the others one word must fit."""

    sources: frozenset[Name] = frozenset()
    """Names of peers."""
    modalities: frozenset[str] = frozenset()
    body_parts: frozenset[str] = frozenset()
    views: frozenset[str] = frozenset()
    stations: frozenset[str] = frozenset()
    procedures: frozenset[str] = frozenset()
    """Codes, alone or as SCHEME:CODE."""
    age: AgeRange | None = None
    """An image that tells no age meets no range."""
    priorities: frozenset[Literal["stat", "routine"]] = frozenset()
    """Of the orders for the study: ``stat`` where one of them is, else ``routine``."""


class PriorSettings(StrictSection):
    """Earlier studies of the patient that are fetched for readers to compare. No study waits for them."""

    sources: Annotated[tuple[Name, ...], Field(min_length=1)]
    """Peers that may `be asked` (C-FIND, C-MOVE), or names of `dicomweb` (QIDO-RS, WADO-RS)."""
    most: int = Field(default=2, ge=1, le=20)
    """The latest ones first."""
    years: float = Field(default=5.0, gt=0, le=150)
    """Before the study."""
    modalities: frozenset[str] = frozenset()
    body_parts: frozenset[str] = frozenset()
    """Of their series; a list that is empty asks nothing, and a series that does not say does not fit."""
    objects: int = Field(default=64, ge=1, le=10_000)
    """In the series that fit; a prior with more is left out."""
    give_up: Duration = Field(default="30m", validate_default=True)
    """After the study was first looked at: what could not be had by then is done without."""


class RouteSettings(StrictSection):
    """Studies with an image that meets `when` take it; the first such route counts."""

    when: Conditions = Conditions()
    service: Name = "default"
    send_to: tuple[Name, ...] = ()
    """Names of destinations."""
    reading_group: Annotated[str, StringConstraints(min_length=1, max_length=MAX_GROUP)] | None = None
    """Readers in this group see the studies on the reading page of the service; its API key must be in the group."""
    priors: PriorSettings | None = None
    """Earlier studies that these readers see beside it; needs `reading_group`."""
    completeness: Completeness | None = None
    """Instead of that of all routes."""

    @model_validator(mode="after")
    def _priors_have_readers(self) -> RouteSettings:
        if self.priors is not None and self.reading_group is None:
            raise ValueError("must give reading_group with priors: its readers are who sees them")
        return self


class DicomDestination(StrictSection):
    """Results as DICOM objects by C-STORE."""

    kind: Literal["dicom"]
    peer: Name
    objects: Objects = ("sr", "sc")
    commitment: bool = False
    """Whether the archive is asked to commit itself to each object (storage commitment); until it has, the object
    counts as not delivered."""


class StowDestination(StrictSection):
    """Results as DICOM objects by STOW-RS."""

    kind: Literal["stow"]
    server: Name
    """Of `dicomweb`."""
    objects: Objects = ("sr", "sc")


class Hl7Destination(StrictSection):
    """Results as ORU^R01 messages over MLLP."""

    kind: Literal["hl7"]
    address: PeerAddress
    tls: ClientTls | None = None
    application: str = ""
    facility: str = ""
    """MSH-5 and MSH-6."""


class FhirDestination(StrictSection):
    """Results as a transaction of FHIR resources."""

    kind: Literal["fhir"]
    server: Name
    """Of `fhir`."""


Destination = Annotated[
    DicomDestination | StowDestination | Hl7Destination | FhirDestination, Field(discriminator="kind")
]
