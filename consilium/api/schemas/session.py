"""The wire types of the reading page's sessions: what the page learns of its reader, and what an admin sees of all."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field

from consilium.domain.wire import Wire

SignInMethod = Literal["api_key", "oidc"]
SignInEvent = Literal["signed_in", "refused", "signed_out", "replaced", "revoked"]


class SignInRequest(Wire):
    """The body of `POST /read/session`."""

    api_key: Annotated[str, Field(min_length=1, max_length=500)]


class PageOptions(Wire):
    """What the site has set for its readers."""

    ohif: str | None = Field(description="Address of an OHIF viewer.")
    locale: Literal["en", "de"] | None = Field(description="Null: the browser's language.")
    letter_keys: bool = Field(description="Whether single letters are shortcuts until a reader turns them off.")


class ReaderAnswer(Wire):
    """The answer of `GET /read/session`: who reads, or that nobody has signed in."""

    signed_in: bool
    methods: tuple[SignInMethod, ...] = Field(description="How one can sign in here; empty where everybody is let in.")
    settings: PageOptions
    name: str | None = Field(default=None, description="For display: of the API key, or as the issuer states it.")
    caller: str | None = None
    method: SignInMethod | Literal["anonymous"] | None = None
    scopes: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    csrf: str | None = Field(default=None, description="The header `Consilium-CSRF` of whatever changes something.")
    expires: datetime | None = Field(default=None, description="When the session ends whatever is asked.")
    idle_s: float | None = Field(default=None, description="After how long without a request it ends.")


class SessionAnswer(Wire):
    """A session that has not ended."""

    session_id: UUID
    caller: str
    method: SignInMethod
    created: datetime
    seen: datetime = Field(description="When it was last used, to half a minute.")
    ends: datetime
    browser: str | None = Field(
        default=None, description="In which it was begun, coarsely: `Firefox, Linux`. Null where that is not known."
    )


class OwnSessionsAnswer(Wire):
    """The answer of `GET /read/session/own`."""

    current: UUID = Field(description="The session that asked.")
    sessions: tuple[SessionAnswer, ...]


class SessionsAnswer(Wire):
    """The answer of `GET /v1/sessions`."""

    sessions: tuple[SessionAnswer, ...]


class SignInAnswer(Wire):
    """What happened at the entrance of the reading page."""

    time: datetime
    event: SignInEvent = Field(description="`replaced`: its browser signed in anew.")
    method: SignInMethod
    caller: str | None = Field(description="Null where somebody could not sign in.")
    session_id: UUID | None
    actor: str | None = Field(description="The caller who ended a session from another one.")
    request_id: str


class SignInsAnswer(Wire):
    """The answer of `GET /v1/sign-ins`."""

    events: tuple[SignInAnswer, ...]
