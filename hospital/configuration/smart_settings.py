"""Record systems that open results by a SMART launch."""

from __future__ import annotations

from pydantic import Field, model_validator

from hospital.configuration.network_settings import ClientTls, HttpUrl, Secret
from hospital.configuration.strict_section import StrictSection

_LOOPBACK = ("http://127.0.0.1", "http://localhost", "http://[::1]")


class SmartIssuer(StrictSection):
    """A record system, by the base URL of its FHIR server (`iss`)."""

    client_id: str = Field(min_length=1)
    client_secret: Secret | None = None
    """Of a confidential client; a public one has none."""
    scopes: tuple[str, ...] = ("launch", "patient/Patient.r", "patient/ImagingStudy.r", "patient/ServiceRequest.r")
    tls: ClientTls = ClientTls()


class SmartLaunchSettings(StrictSection):
    """SMART App Launch: results of the patient whose chart is open, as a page."""

    url: HttpUrl
    """The gateway as browsers call it, without ``/smart/launch``."""
    issuers: dict[HttpUrl, SmartIssuer] = Field(min_length=1)
    embedded_by: tuple[HttpUrl, ...] = ()
    """Origins whose pages may show results in a frame."""

    @model_validator(mode="after")
    def _by_https(self) -> SmartLaunchSettings:
        if not self.url.startswith(("https://", *_LOOPBACK)):
            raise ValueError("url must be an https URL: what comes back to it shows a patient's results")
        return self

    @property
    def secure(self) -> bool:
        return self.url.startswith("https://")
