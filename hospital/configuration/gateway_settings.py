"""gateway.yaml as a whole."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated, Any

from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError
from sqlalchemy import URL

from consilium.databases.database import read_url
from consilium.domain.errors import InputError
from consilium.formats.time_zone import TimeZone
from hospital.configuration.audit_settings import AuditSettings, FhirRepository
from hospital.configuration.cds_settings import CdsHooksSettings
from hospital.configuration.network_settings import HttpServer, ListenAddress, Secret
from hospital.configuration.route_settings import (
    Completeness,
    DeliverySettings,
    Destination,
    DicomDestination,
    FhirDestination,
    RouteSettings,
    StowDestination,
)
from hospital.configuration.smart_settings import SmartLaunchSettings
from hospital.configuration.strict_section import Duration, FilePath, Name, Size, StrictSection
from hospital.configuration.system_settings import (
    DicomListener,
    DicomPeerSettings,
    DicomWebSettings,
    DocumentType,
    FhirServer,
    Hl7Listener,
    Identifiers,
    LocalCode,
)
from hospital.configuration.worklist_settings import WorklistSettings

BROKEN_REFERENCE = "broken_reference"


def _zone(name: str) -> str:
    try:
        TimeZone(name)
    except InputError as error:
        raise ValueError(error.rule) from None
    return name


class StoreSettings(StrictSection):
    """Where the gateway keeps what it holds, and for how long."""

    folder: FilePath
    """Of received files, and of the database unless `url` says otherwise."""
    key_file: FilePath
    """What opens the store; made at the first start. Keep a copy elsewhere: without it nothing can be read."""
    url: str | None = None
    """``postgresql://USER@HOST/DATABASE``."""
    password: Secret | None = None
    """Of `url`; libpq's own ways (PGPASSFILE) work, too."""
    free: Size = Field(default="5GB", validate_default=True)
    """Room that the disk must have for anything to be received."""
    keep: Duration = Field(default="30d", validate_default=True)

    @model_validator(mode="after")
    def _without_password(self) -> StoreSettings:
        if self.url is not None:
            try:
                given = read_url(self.url, "url")
            except InputError as error:
                raise ValueError(error.rule) from None
            if given.password is not None:
                raise ValueError("url must carry no password: give `password: {env: NAME}` or `{file: PATH}`")
        return self

    def database_url(self) -> URL:
        """Where the database is.

        Raises
        ------
        InputError
            The password cannot be read.
        """
        url = read_url(self.url or f"sqlite:///{self.folder / 'gateway.db'}", "store.url")
        return url if self.password is None else url.set(password=self.password.read("store.password"))


class HttpSender(StrictSection):
    """A system that sends DICOM objects by STOW-RS."""

    token: Secret
    """Of which it shows the value as a bearer token."""
    patient_issuer: Name | None = None
    accession_issuer: Name | None = None
    """Who issued identifiers that come from it without an issuer."""


class HttpListener(StrictSection):
    """The gateway's own HTTP routes: health, metrics, DICOMweb, CDS Hooks."""

    listen: ListenAddress
    senders: dict[Name, HttpSender] = Field(default_factory=dict)
    """Who may send to ``/dicom-web/studies``."""


class GatewaySettings(StrictSection):
    """Everything that gateway.yaml says."""

    time_zone: Annotated[str, AfterValidator(_zone)]
    """Of the site's clocks, as the IANA database names it: ``Europe/Berlin``."""
    store: StoreSettings
    services: dict[Name, HttpServer] = Field(min_length=1)
    """Diagnosis services, by name; a route that names none asks ``default``."""
    http: HttpListener
    dicom: DicomListener | None = None
    peers: dict[Name, DicomPeerSettings] = Field(default_factory=dict)
    hl7: dict[Name, Hl7Listener] = Field(default_factory=dict)
    fhir: dict[Name, FhirServer] = Field(default_factory=dict)
    dicomweb: dict[Name, DicomWebSettings] = Field(default_factory=dict)
    worklists: dict[Name, WorklistSettings] = Field(default_factory=dict)
    cds_hooks: CdsHooksSettings | None = None
    smart_launch: SmartLaunchSettings | None = None
    identifiers: dict[Name, Identifiers] = Field(default_factory=dict)
    local_codes: tuple[LocalCode, ...] = ()
    documents: tuple[DocumentType, ...] = ()
    completeness: Completeness = Completeness()
    routes: dict[Name, RouteSettings] = Field(min_length=1)
    """Tried in their order."""
    destinations: dict[Name, Destination] = Field(default_factory=dict)
    delivery: DeliverySettings = DeliverySettings()
    audit: AuditSettings | None = None

    @model_validator(mode="after")
    def _known_names(self) -> GatewaySettings:
        for place, named, section in self._references():
            known = getattr(self, section)
            if named not in known:
                rule = f"must be a name of `{section}`: {', '.join(known) or 'there is none'}"
                raise _broken(place, named, rule)
        return self

    @model_validator(mode="after")
    def _destinations_are_reachable(self) -> GatewaySettings:
        for name, one in self.destinations.items():
            if isinstance(one, DicomDestination) and "receive" not in self.peers[one.peer].may:
                rule = f"must be a peer that may `receive`; see peers.{one.peer}.may"
                raise _broken(f"destinations.{name}.peer", one.peer, rule)
        return self

    @model_validator(mode="after")
    def _inputs_can_be_fetched(self) -> GatewaySettings:
        askable = [name for name, one in self.peers.items() if "be asked" in one.may and self.dicom is not None]
        fetched = [(f"worklists.{name}.inputs", one.inputs) for name, one in self.worklists.items()]
        for name, route in self.routes.items():
            sources = () if route.priors is None else route.priors.sources
            fetched += [(f"routes.{name}.priors.sources", source) for source in sources]
        for place, source in fetched:
            if source not in (*self.dicomweb, *askable):
                rule = "must be a name of `dicomweb`, or of a peer that may `be asked` and sends to `dicom`"
                raise _broken(place, source, rule)
        return self

    @model_validator(mode="after")
    def _unambiguous(self) -> GatewaySettings:
        issuers: dict[str, str] = {}
        for name, given in self.identifiers.items():
            for known_as in (name, *given.known_as):
                if issuers.setdefault(known_as, name) != name:
                    rule = f"must name one authority; it stands at {issuers[known_as]}, too"
                    raise _broken(f"identifiers.{name}.known_as", known_as, rule)
        for name in self.audit.repositories if self.audit else ():
            if name in self.destinations:
                raise _broken(f"audit.repositories.{name}", name, "must be no name of a destination")
        senders = [sender for listener in self.hl7.values() for sender in listener.senders]
        sources = [*self.peers, *senders, *self.http.senders, *self.fhir, *self.dicomweb, *self.worklists]
        for source in sources:
            if sources.count(source) > 1:
                raise _broken(source, source, "must be the name of one system: rows and metrics go by it")
        return self

    def _references(self) -> Iterator[tuple[str, str, str]]:
        """Where a name stands, the name, and which section must have it."""
        for name, route in self.routes.items():
            yield f"routes.{name}.service", route.service, "services"
            yield from ((f"routes.{name}.send_to", one, "destinations") for one in route.send_to)
        for name, destination in self.destinations.items():
            if isinstance(destination, DicomDestination):
                yield f"destinations.{name}.peer", destination.peer, "peers"
            elif isinstance(destination, StowDestination):
                yield f"destinations.{name}.server", destination.server, "dicomweb"
            elif isinstance(destination, FhirDestination):
                yield f"destinations.{name}.server", destination.server, "fhir"
        for name, repository in (self.audit.repositories if self.audit else {}).items():
            if isinstance(repository, FhirRepository):
                yield f"audit.repositories.{name}.server", repository.server, "fhir"
        yield from self._issuers()

    def _issuers(self) -> Iterator[tuple[str, str, str]]:
        """Issuers that are declared as defaults; the section may be left out where nobody declares any."""
        places: Iterable[tuple[str, Any]] = (
            *((f"peers.{name}", one) for name, one in self.peers.items()),
            *((f"fhir.{name}", one) for name, one in self.fhir.items()),
            *((f"dicomweb.{name}", one) for name, one in self.dicomweb.items()),
            *(
                (f"hl7.{port}.senders.{name}", one)
                for port, listener in self.hl7.items()
                for name, one in listener.senders.items()
            ),
        )
        for place, given in places:
            for key in ("patient_issuer", "accession_issuer"):
                issuer = getattr(given, key, None)
                if issuer is not None:
                    yield f"{place}.{key}", issuer, "identifiers"


def _broken(place: str, value: str, rule: str) -> PydanticCustomError:
    return PydanticCustomError(BROKEN_REFERENCE, "{rule}", {"place": place, "value": value, "rule": rule})
