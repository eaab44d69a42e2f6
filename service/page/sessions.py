"""Sessions by the cookies of browsers.

The cookie holds a secret, sealed by the audit log's keys: whoever has neither those nor the cookie can make none up.
What a session may do is looked up with each request, so that a revoked session or API key ends at once.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import ParamSpec, TypeVar
from uuid import UUID

from starlette.datastructures import Headers

from consilium.api.schemas import OwnSessionsAnswer, SessionAnswer, SignInAnswer
from service.audit_log.database import AuditLogUnavailable, Database, read_url
from service.audit_log.pseudonyms import AuditLogKeys, Unsealable, read_keys
from service.auth.caller import Caller, CrossSite, Unauthenticated
from service.auth.keyring import KeyRing
from service.auth.sites import SAFE_METHODS
from service.http.problems import Unavailable
from service.page.cookies import Cookie
from service.page.session_store import Identity, Method, SessionStore
from service.settings import Settings

logger = logging.getLogger("consilium.service")

CSRF_HEADER = "Consilium-CSRF"
BACKGROUND_HEADER = "Consilium-Background"
"""Of what a page asks by itself, as a worklist does that renews: nobody may be sitting there."""
_RETRY_AFTER_S = 5
Asked = ParamSpec("Asked")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class SignedIn:
    """A reader whose session goes on."""

    caller: Caller
    identity: Identity
    csrf: str
    expires: datetime


class Seal:
    """Puts text into a cookie, and takes it out where it is ours."""

    def __init__(self, keys: AuditLogKeys, purpose: str) -> None:
        self._keys = keys
        self._place = f"cookie: {purpose}"

    def seal(self, text: str) -> str:
        return base64.urlsafe_b64encode(self._keys.newest.seal(text.encode(), self._place)).decode().rstrip("=")

    def unseal(self, cookie: str) -> str | None:
        try:
            sealed = base64.urlsafe_b64decode(cookie + "=" * (-len(cookie) % 4))
            return self._keys.unseal(sealed, self._place).decode()
        except (Unsealable, binascii.Error, ValueError):
            return None


class Sessions:
    """Knows who signed in. What `service.auth.guard.Guard` calls its visitors.

    Parameters
    ----------
    ring : KeyRing
        A session that an API key began goes on only as long as that key opens, with what it allows now.
    """

    def __init__(self, settings: Settings, ring: KeyRing) -> None:
        self.keys = read_keys(settings.audit_log_keys)
        database = Database(read_url(settings.audit_log_url.get_secret_value()), settings.audit_log_timeout_s)
        idle, longest = timedelta(seconds=settings.session_idle_s), timedelta(seconds=settings.session_s)
        self._database = database
        self._store = SessionStore(database, self.keys, idle, longest)
        self._ring = ring
        self._seal = Seal(self.keys, "session")
        self._cookie = session_cookie(settings)

    def close(self) -> None:
        """Give the database's connections back."""
        self._database.close()

    def cookie(self, headers: Headers) -> str | None:
        """The session's cookie in a request."""
        return self._cookie.read(headers)

    async def caller(self, cookie: str, method: str, headers: Headers) -> Caller:
        """Who was given `cookie`; a request that changes something must hold what only our page knows.

        Raises
        ------
        Unauthenticated, CrossSite, Unavailable
        """
        found = await self.signed_in(cookie, in_use=BACKGROUND_HEADER not in headers)
        if method not in SAFE_METHODS:
            require_csrf(headers, found.csrf)
        return found.caller

    async def signed_in(self, cookie: str, *, in_use: bool = False) -> SignedIn:
        """Who was given `cookie`, and whether they do something with it now.

        Raises
        ------
        Unauthenticated, Unavailable
        """
        secret = self._seal.unseal(cookie)
        found = None if secret is None else await self._ask(self._store.find, secret, in_use=in_use)
        if secret is None or found is None:
            raise Unauthenticated(given=True)
        return SignedIn(self._caller(found.identity), found.identity, csrf_of(secret), found.ends)

    async def open(self, identity: Identity, former: str | None, request_id: str, browser: str | None = None) -> str:
        """Begin a session, whose cookie is new, and end the one of the cookie `former`."""
        replaced = None if former is None else self._seal.unseal(former)
        return self._seal.seal(await self._ask(self._store.open, identity, replaced, request_id, browser))

    async def sign_out(self, cookie: str, request_id: str) -> None:
        secret = self._seal.unseal(cookie)
        if secret is not None:
            await self._ask(self._store.sign_out, secret, request_id)

    async def refused(self, method: Method, request_id: str) -> None:
        """Note that somebody could not sign in."""
        await self._ask(self._store.refused, method, request_id)

    async def spend(self, state: str, expires: datetime) -> bool:
        """Take the issuer's answer to `state`; False where it was taken before."""
        return await self._ask(self._store.spend, state, expires)

    async def own(self, cookie: str, headers: Headers) -> OwnSessionsAnswer:
        """The sessions of who was given `cookie`.

        Raises
        ------
        Unauthenticated, Unavailable
        """
        await self.signed_in(cookie, in_use=BACKGROUND_HEADER not in headers)
        secret = self._seal.unseal(cookie)
        found = None if secret is None else await self._ask(self._store.own, secret)
        if found is None:
            raise Unauthenticated(given=True)
        return found

    async def end_own(self, cookie: str, session_id: UUID | None, request_id: str) -> int:
        """End one of them, or all but that of `cookie`; how many."""
        secret = self._seal.unseal(cookie)
        return 0 if secret is None else await self._ask(self._store.end_own, secret, session_id, request_id)

    async def listed(self) -> list[SessionAnswer]:
        return await self._ask(self._store.listed)

    async def revoke(self, session_id: UUID, actor: str, request_id: str, *, of_caller: bool) -> bool:
        return await self._ask(self._store.revoke, session_id, actor, request_id, of_caller=of_caller)

    async def events(self, before: datetime | None, limit: int) -> list[SignInAnswer]:
        return await self._ask(self._store.events, before, limit)

    def _caller(self, identity: Identity) -> Caller:
        if identity.method == "oidc":
            return Caller(identity.caller, identity.scopes, identity.groups)
        key = self._ring.holder(identity.caller)
        if key is None:
            raise Unauthenticated(given=True)
        return Caller(identity.caller, key.scopes, key.groups)

    async def _ask(self, work: Callable[Asked, Result], *asked: Asked.args, **more: Asked.kwargs) -> Result:
        try:
            return await asyncio.to_thread(work, *asked, **more)
        except AuditLogUnavailable as error:
            logger.error("%s", error)
            raise Unavailable("The sessions are unavailable.", _RETRY_AFTER_S) from None


def session_cookie(settings: Settings) -> Cookie:
    """The cookie of sessions."""
    return Cookie("consilium", is_secure(settings))


def is_secure(settings: Settings) -> bool:
    """Whether browsers reach the page over https."""
    return (settings.page_url or "").startswith("https:")


def csrf_of(secret: str) -> str:
    """What the page sends along with whatever changes something; the secret cannot be found from it."""
    return hashlib.sha256(f"csrf {secret}".encode()).hexdigest()


def require_csrf(headers: Headers, csrf: str) -> None:
    """Raise `CrossSite` where the header is not there or another session's."""
    if not hmac.compare_digest(headers.get(CSRF_HEADER, "").encode(), csrf.encode()):
        raise CrossSite(f"The header {CSRF_HEADER} must hold what GET /read/session gives this session.")
