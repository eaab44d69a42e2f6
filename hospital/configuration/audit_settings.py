"""Which audit repositories are told what the gateway does."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from hospital.configuration.network_settings import ClientTls, PeerAddress
from hospital.configuration.strict_section import Name, StrictSection


class SyslogRepository(StrictSection):
    """A repository that takes DICOM's audit messages (PS3.15 A.5) by syslog, as IHE ATNA wants it."""

    kind: Literal["syslog"]
    address: PeerAddress
    transport: Literal["tls", "tcp", "udp"] = "tls"
    tls: ClientTls = ClientTls()

    @model_validator(mode="after")
    def _used(self) -> SyslogRepository:
        if self.transport != "tls" and self.tls != ClientTls():
            raise ValueError("tls must not be given for transport tcp or udp")
        return self


class FhirRepository(StrictSection):
    """A FHIR server that takes AuditEvent resources."""

    kind: Literal["fhir"]
    server: Name
    """Of `fhir`."""


class AuditSettings(StrictSection):
    """Audit messages. They name patients, as the standards require, and go to these repositories alone."""

    repositories: dict[Name, Annotated[SyslogRepository | FhirRepository, Field(discriminator="kind")]] = Field(
        min_length=1
    )
    source: str = Field(default="consilium-gateway", min_length=1)
    """AuditSourceID: how the repositories know this gateway."""
    site: str | None = None
    """AuditEnterpriseSiteID."""
    spool: int = Field(default=100_000, ge=1)
    """Messages that wait for one repository at most; later ones are dropped and counted."""
