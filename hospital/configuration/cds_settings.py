"""Who may ask the gateway for cards (CDS Hooks)."""

from __future__ import annotations

from pydantic import Field

from hospital.configuration.network_settings import ClientTls, HttpUrl
from hospital.configuration.strict_section import StrictSection


class CdsIssuer(StrictSection):
    """A record system, by the `iss` of its tokens."""

    key_set_url: HttpUrl
    """Where it publishes its public keys (JWKS); what a token says of that is not followed."""
    tls: ClientTls = ClientTls()


class CdsHooksSettings(StrictSection):
    """CDS Hooks 2.0: results that are there, shown when a chart is opened or an order drafted."""

    url: HttpUrl
    """The gateway as record systems call it, without ``/cds-services``: tokens are for URLs below it."""
    issuers: dict[str, CdsIssuer] = Field(min_length=1)
