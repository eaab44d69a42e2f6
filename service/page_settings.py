"""Settings of the reading page: where browsers reach it, how long a session lasts, what it offers."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import httpx
from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_settings import NoDecode

from service.audit_settings import AuditLogSettings, Seconds

LOOPBACK_NAMES = ("127.0.0.1", "::1", "localhost")


def safe_address(url: str) -> str:
    """`url` where it is https, or http on this machine; `ValueError` otherwise."""
    try:
        parts = httpx.URL(url)
    except httpx.InvalidURL:
        raise ValueError("must be an address") from None
    schemes = ("https", "http") if parts.host in LOOPBACK_NAMES else ("https",)
    if not parts.host or parts.scheme not in schemes:
        raise ValueError("must be an https address")
    return url


def _page_address(url: str) -> str:
    parts = httpx.URL(safe_address(url))
    if parts.query or parts.fragment or parts.userinfo:
        raise ValueError("must have no user, query or fragment")
    return url.rstrip("/")


def _split(given: Any) -> Any:
    return [name.strip() for name in given.split(",") if name.strip()] if isinstance(given, str) else given


def _host_names(names: tuple[str, ...]) -> tuple[str, ...]:
    for name in names:
        if not name.isascii() or any(mark in name for mark in "/@ *"):
            raise ValueError("must be host names without scheme, port or wildcard, with commas between them")
    return tuple(name.lower().strip("[]") for name in names)


PageAddress = Annotated[str, AfterValidator(_page_address)]
SafeAddress = Annotated[str, AfterValidator(safe_address)]
HostNames = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split), AfterValidator(_host_names)]


class PageSettings(AuditLogSettings):
    """The reading page, which is served where studies are kept."""

    studies: bool = False
    """Keep studies for the reading page, and serve the page at ``/read/``."""
    page_url: PageAddress | None = None
    """Address of the service as browsers see it, a proxy's path prefix included: ``https://consilium.example.org``.
    None: the page is for browsers on this machine."""
    hosts: HostNames = ()
    """Further host names by which requests may name the service, with commas between them. Where any is given, or
    nobody is authenticated, every request must name one of these, that of `page_url` or this machine."""
    session_idle_s: Seconds = 1800.0
    """After how long without a request a session ends."""
    session_s: Seconds = 28_800.0
    """After how long a session ends whatever is asked."""
    sign_ins_per_minute: int = Field(default=20, gt=0)
    """Attempts to sign in from one address, in one process; a proxy that does not pass addresses on is one. Over it:
    429."""
    page_locale: Literal["en", "de"] | None = None
    """Language of the page. None: the browser's."""
    page_letter_keys: bool = True
    """Whether single letters are keyboard shortcuts of the page until a reader turns them off."""
    page_ohif_url: SafeAddress | None = None
    """An OHIF viewer, to which the page of a study of DICOM files links, with its Study Instance UID:
    ``https://ohif.example.org/viewer``. That archive must hold the study."""
