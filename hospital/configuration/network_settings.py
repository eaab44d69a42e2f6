"""Addresses, TLS, HTTP servers and secrets, as every part of gateway.yaml writes them."""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, model_validator

from consilium.domain.errors import InputError, os_cause
from hospital.configuration.strict_section import FilePath, StrictSection


def _network(given: Any) -> Any:
    try:
        return ip_network(given)
    except ValueError:
        raise ValueError("must be an address or a network, such as 10.0.0.5 or 10.0.0.0/24") from None


Network = Annotated[IPv4Network | IPv6Network, BeforeValidator(_network)]


@dataclass(frozen=True, slots=True)
class Address:
    """Where something listens."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def _address(given: Any, lowest: int) -> Any:
    if isinstance(given, Address):
        return given
    found = re.fullmatch(r"(?:\[([0-9a-fA-F:]+)\]|([^:\s]+)):(\d{1,5})", str(given))
    if found is None or not lowest <= int(found[3]) <= 65535:
        raise ValueError("must read HOST:PORT, such as 127.0.0.1:11112 or [::1]:11112")
    return Address(found[1] or found[2], int(found[3]))


ListenAddress = Annotated[Address, BeforeValidator(partial(_address, lowest=0))]
"""``HOST:PORT``; port 0 takes a free one."""
PeerAddress = Annotated[Address, BeforeValidator(partial(_address, lowest=1))]
"""``HOST:PORT``."""


class Secret(StrictSection):
    """A secret by its place: ``{env: NAME}`` or ``{file: PATH}``. It never stands in gateway.yaml itself."""

    env: str | None = None
    file: FilePath | None = None

    @model_validator(mode="before")
    @classmethod
    def _by_its_place(cls, given: Any) -> Any:
        if not isinstance(given, Mapping | Secret) or (isinstance(given, Mapping) and len(given) != 1):
            # What was given may be the secret, and is not shown.
            raise ValueError("must be {env: NAME} or {file: PATH}: a secret does not stand in this file")
        return given

    def read(self, field: str) -> str:
        """The secret, without line ends around it.

        Raises
        ------
        InputError
            The variable is not set, the file cannot be read, or it is empty.
        """
        if self.env is not None:
            found, place = os.environ.get(self.env, ""), f"variable {self.env}"
        else:
            assert self.file is not None
            place = str(self.file)
            try:
                found = self.file.read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as error:
                raise InputError(field, place, f"must be a file that can be read ({type(error).__name__})") from None
        if not found.strip():
            raise InputError(field, place, "must hold a secret, and is empty")
        return found.strip()


class ServerTls(StrictSection):
    """TLS of a listener; with `ca` whoever connects needs a certificate that it signed."""

    certificate: FilePath
    key: FilePath
    ca: FilePath | None = None

    def context(self, field: str) -> ssl.SSLContext:
        """TLS 1.2 or later.

        Raises
        ------
        InputError
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        _load(context, self, field)
        if self.ca is not None:
            context.verify_mode = ssl.CERT_REQUIRED
        return context


class ClientTls(StrictSection):
    """TLS towards a system: its certificate must be of `ca`, or of a public authority where none is given."""

    ca: FilePath | None = None
    certificate: FilePath | None = None
    key: FilePath | None = None

    @model_validator(mode="after")
    def _both(self) -> ClientTls:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("must give certificate and key together")
        return self

    def context(self, field: str) -> ssl.SSLContext:
        """As `ServerTls.context`."""
        context = ssl.create_default_context()
        _load(context, self, field)
        return context


def _load(context: ssl.SSLContext, given: ServerTls | ClientTls, field: str) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        if given.certificate is not None and given.key is not None:
            context.load_cert_chain(given.certificate, given.key)
        if given.ca is not None:
            context.load_verify_locations(given.ca)
    except (OSError, ssl.SSLError) as error:
        cause = os_cause(error)
        raise InputError(field, str(given.certificate or given.ca), f"must be certificates in PEM ({cause})") from None


def _plain_url(given: str, info: ValidationInfo) -> str:
    del info
    found = urlsplit(given)
    if found.scheme not in ("http", "https") or not found.hostname or found.query or found.fragment:
        raise ValueError("must be an http or https URL without query and fragment")
    if found.username is not None or found.password is not None:
        raise ValueError("must carry no user and no password: a token has a place of its own")
    return given.rstrip("/")


HttpUrl = Annotated[str, AfterValidator(_plain_url)]


class HttpServer(StrictSection):
    """A system that is asked over HTTP."""

    url: HttpUrl
    token: Secret | None = None
    """Sent as a bearer token."""
    tls: ClientTls = ClientTls()
    timeout_s: float = Field(default=30.0, gt=0, le=600)

    def headers(self, field: str) -> dict[str, str]:
        """What authorises a request. Raises `InputError` where the token cannot be read."""
        return {} if self.token is None else {"Authorization": f"Bearer {self.token.read(f'{field}.token')}"}
