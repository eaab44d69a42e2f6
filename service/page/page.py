"""What the reading page consists of while a service runs."""

from __future__ import annotations

import logging

from starlette.requests import Request

from consilium.api.schemas import PageOptions, ReaderAnswer
from service.auth.caller import ANONYMOUS, TooManyRequests, Unauthenticated
from service.auth.guard import Guard
from service.auth.rate_limits import RateLimit
from service.page.code_flow import CodeFlow, code_flow
from service.page.session_store import Identity
from service.page.sessions import Sessions, SignedIn
from service.page.static_files import read_files
from service.settings import Settings

logger = logging.getLogger("consilium.service")

_ANONYMOUS_CSRF = "anonymous"
"""Where nobody is authenticated there is no session to bind it to: Host and Origin are all that is checked."""


class Page:
    """The page's files, and who reads it.

    Attributes
    ----------
    files : PageFiles or None
        None where the page was not built.
    sessions : Sessions or None
        None where everybody is let in.
    flow : CodeFlow or None
        How people sign in at an issuer, where that is set up.
    """

    def __init__(self, settings: Settings, guard: Guard) -> None:
        self.settings = settings
        self.files = read_files()
        if self.files is None:
            logger.error("the reading page was not built into this installation: /read/ answers 404")
        self._ring = guard.ring
        self._attempts = RateLimit(settings.sign_ins_per_minute)
        self.sessions = None if settings.insecure or guard.ring is None else Sessions(settings, guard.ring)
        self.flow: CodeFlow | None = None
        if self.sessions is not None and guard.reader is not None:
            self.flow = code_flow(settings, guard.reader, self.sessions)
        guard.visitors = self.sessions

    def close(self) -> None:
        """Give back what it holds."""
        if self.sessions is not None:
            self.sessions.close()

    def count_attempt(self, request: Request) -> None:
        """Raise `TooManyRequests` where too many attempts to sign in come from one address."""
        address = request.client.host if request.client else ""
        if wait := self._attempts.wait_s(address):
            raise TooManyRequests(wait)

    def identity(self, api_key: str) -> Identity:
        """Whose `api_key` it is; raises `Unauthenticated`."""
        if self._ring is None:
            raise Unauthenticated(given=True)
        caller = self._ring.caller(api_key)
        key = self._ring.holder(caller.name)
        name = caller.name if key is None else key.name
        return Identity(caller.name, name, "api_key", caller.scopes, caller.groups)

    async def reader(self, cookie: str | None) -> ReaderAnswer:
        """Who was given `cookie`, if anybody."""
        if self.sessions is None:
            return self.answer(None)
        try:
            return self.answer(None if cookie is None else await self.sessions.signed_in(cookie))
        except Unauthenticated:
            return self.answer(None)

    def answer(self, signed_in: SignedIn | None) -> ReaderAnswer:
        settings = self.settings
        options = PageOptions(
            ohif=settings.page_ohif_url, locale=settings.page_locale, letter_keys=settings.page_letter_keys
        )
        if self.sessions is None:
            return ReaderAnswer(
                signed_in=True,
                methods=(),
                settings=options,
                caller=ANONYMOUS.name,
                method="anonymous",
                scopes=tuple(sorted(ANONYMOUS.scopes)),
                csrf=_ANONYMOUS_CSRF,
            )
        found = ReaderAnswer(
            signed_in=False, methods=("api_key",) if self.flow is None else ("oidc", "api_key"), settings=options
        )
        if signed_in is None:
            return found
        return found.model_copy(
            update={
                "signed_in": True,
                "name": signed_in.identity.name,
                "caller": signed_in.caller.name,
                "method": signed_in.identity.method,
                "scopes": tuple(sorted(signed_in.caller.scopes)),
                "groups": tuple(sorted(signed_in.caller.groups)),
                "csrf": signed_in.csrf,
                "expires": signed_in.expires,
                "idle_s": settings.session_idle_s,
            }
        )
