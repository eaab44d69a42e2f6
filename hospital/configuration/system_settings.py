"""The systems around the gateway, and where it listens for them: DICOM, HL7 v2, DICOMweb, FHIR."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from hospital.configuration.network_settings import (
    ClientTls,
    HttpServer,
    ListenAddress,
    Network,
    PeerAddress,
    Secret,
    ServerTls,
)
from hospital.configuration.strict_section import Duration, Name, Size, StrictSection


def _ae_title(given: str) -> str:
    if re.fullmatch(r"[!-\[\]-~]([ -\[\]-~]{0,14}[!-\[\]-~])?", given) is None:
        raise ValueError("must be 1 to 16 printable characters (ASCII) without a backslash, and no blank at either end")
    return given


AeTitle = Annotated[str, AfterValidator(_ae_title)]
"""At most 16 characters, no backslash, no blanks around it. Source: PS3.5 6.2, AE."""
Fingerprint = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class DicomListener(StrictSection):
    """The gateway's own application entity."""

    ae_title: AeTitle = "CONSILIUM"
    listen: ListenAddress
    tls: ServerTls | None = None
    associations: int = Field(default=20, ge=1, le=1000)
    """Open at a time."""
    idle: Duration = Field(default="60s", validate_default=True)
    """Without a message, before an association is aborted."""
    largest_object: Size = Field(default="1GB", validate_default=True)


class DicomPeerSettings(StrictSection):
    """A DICOM system that may send to the gateway, is asked by it, or is sent to."""

    ae_title: AeTitle
    address: PeerAddress | None = None
    """Where it listens; without one it only sends."""
    networks: tuple[Network, ...] = ()
    """Where its connections come from: addresses or networks; unless given, its own address."""
    may: frozenset[Literal["send", "be asked", "receive"]] = frozenset({"send"})
    fingerprint: Fingerprint | None = None
    """SHA-256 of the certificate that it must show, in lower-case hex."""
    tls: ClientTls | None = None
    """Towards it."""
    patient_issuer: Name | None = None
    accession_issuer: Name | None = None
    """Who issued identifiers that come from it without an issuer."""

    @model_validator(mode="after")
    def _reachable(self) -> DicomPeerSettings:
        if self.address is None and self.may - {"send"}:
            raise ValueError("must give an address: who is asked or receives is connected to")
        if "send" in self.may and self.address is None and not self.networks:
            raise ValueError("must give networks or an address: an AE title alone is no authentication")
        return self


class DicomWebSettings(HttpServer):
    """A DICOMweb server that is asked, pulled from or sent to."""

    patient_issuer: Name | None = None
    accession_issuer: Name | None = None
    """Who issued identifiers that come from it without an issuer."""


class Hl7Sender(StrictSection):
    """A system that sends HL7 v2 messages."""

    networks: tuple[Network, ...] = Field(min_length=1)
    fingerprint: Fingerprint | None = None
    """SHA-256 of the certificate that it must show, in lower-case hex; `tls.ca` of the listener must be given."""
    encoding: str | None = None
    """In which it writes where MSH-18 is empty: ``latin-1``, ``cp1252``, ``utf-8``."""
    patient_issuer: Name | None = None
    accession_issuer: Name | None = None
    accession: tuple[str, ...] = ("OBR-18", "IPC-1")
    study: tuple[str, ...] = ("ZDS-1", "IPC-3")
    reason: tuple[str, ...] = ("OBR-31", "OBR-13")
    """Where orders carry accession number, Study Instance UID and the reason for the study."""
    result_accession: tuple[str, ...] = ()
    """The same for results."""

    @model_validator(mode="after")
    def _encoding(self) -> Hl7Sender:
        if self.encoding is not None:
            try:
                "".encode(self.encoding)
            except LookupError:
                raise ValueError("encoding must be one that Python knows, such as latin-1 or utf-8") from None
        return self


class Hl7Listener(StrictSection):
    """A port for HL7 v2 over MLLP."""

    listen: ListenAddress
    senders: dict[Name, Hl7Sender] = Field(min_length=1)
    tls: ServerTls | None = None
    largest_message: Size = Field(default="8MB", validate_default=True)
    connections: int = Field(default=64, ge=1, le=10_000)
    test_messages: bool = False
    """Whether messages of MSH-11 T or D are taken."""

    @model_validator(mode="after")
    def _certificates_are_asked_for(self) -> Hl7Listener:
        bound = [name for name, sender in self.senders.items() if sender.fingerprint is not None]
        if bound and (self.tls is None or self.tls.ca is None):
            raise ValueError(f"must give tls with ca: a certificate is wanted of {', '.join(bound)}")
        return self


class BackendService(StrictSection):
    """SMART Backend Services: a token for a signed assertion (private_key_jwt)."""

    client_id: str = Field(min_length=1)
    key: Secret
    """The private key, in PEM."""
    key_id: str = Field(min_length=1)
    token_url: str | None = None
    """Unless given, that of the server's .well-known/smart-configuration."""
    scopes: tuple[str, ...] = ("system/*.rs",)


class FhirServer(HttpServer):
    """A FHIR R4 server that is read, or written to."""

    backend_service: BackendService | None = None
    patient_system: str | None = None
    """The `system` of the identifier by which it knows a patient of `patient_issuer`."""
    patient_issuer: Name | None = None
    categories: tuple[str, ...] = ("laboratory", "vital-signs")
    read: bool = True
    """Whether values, notes and orders are read from it."""

    @model_validator(mode="after")
    def _one_way(self) -> FhirServer:
        if self.token is not None and self.backend_service is not None:
            raise ValueError("must give token or backend_service, not both")
        return self


class Identifiers(StrictSection):
    """One assigning authority, under the name that the configuration uses for it."""

    known_as: tuple[str, ...] = Field(min_length=1)
    """Namespaces, OIDs and URIs by which systems name it."""


class LocalCode(StrictSection):
    """What a local code of a result means."""

    code: str = Field(min_length=1)
    system: str | None = None
    means: str = Field(min_length=1)
    """LOINC code, or a name of the model's variables."""


class DocumentType(StrictSection):
    """Which kind of note a type of document is."""

    code: str = Field(min_length=1)
    system: str | None = None
    kind: Literal["history", "indication"]
    """Findings and impression of a radiologist give the answer away, and are never read."""
