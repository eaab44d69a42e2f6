"""The guard: what is known of those who may ask, from the settings; it lives as long as the service does."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Protocol

from starlette.datastructures import Headers

from consilium.domain.errors import InputError
from service.auth.api_keys import PREFIX
from service.auth.caller import ANONYMOUS, Caller, TooManyRequests, Unauthenticated
from service.auth.issuer_keys import IssuerKeys
from service.auth.keyring import KeyRing
from service.auth.oidc import TokenReader, Trust
from service.auth.rate_limits import RateLimit
from service.auth.sites import Sites
from service.http.problems import Unavailable

if TYPE_CHECKING:
    from service.settings import Settings

logger = logging.getLogger("consilium.service")

PAGE = "/read"
"""Where the reading page lies."""
_OF_COOKIES = "/v1/"
"""What its cookie opens: not the pages of BentoML and of the API's description, which have scripts of their own."""
_NOBODY_MAY_ASK = (
    "must hold an API key (consilium keys create NAME), or CONSILIUM_OIDC_ISSUER must name an issuer; "
    "CONSILIUM_INSECURE=1 answers everybody on this machine"
)


class Visitors(Protocol):
    """Knows people who signed in to the reading page by the cookies of their browsers."""

    def cookie(self, headers: Headers) -> str | None: ...

    async def caller(self, cookie: str, method: str, headers: Headers) -> Caller: ...


class Guard:
    """Finds out who asks. Until `start` it lets nobody in.

    Attributes
    ----------
    visitors : Visitors or None
        Set where the reading page is served and somebody is authenticated.
    """

    def __init__(self) -> None:
        self.visitors: Visitors | None = None
        self._started = False
        self._insecure = False
        self._serves_page = False
        self._checks_host = False
        self._sites: Sites | None = None
        self.ring: KeyRing | None = None
        self.reader: TokenReader | None = None
        self._rate: RateLimit | None = None
        self._following: asyncio.Task[None] | None = None

    def start(self, settings: Settings) -> None:
        """Take up the keys, the issuer and the limits that `settings` name. Within the event loop.

        Raises
        ------
        InputError, KeysUnusable
            As `refuse_unguarded`.
        """
        refuse_unguarded(settings)
        self._insecure, self._serves_page = settings.insecure, settings.studies
        self._checks_host = settings.insecure or bool(settings.hosts)
        self._sites = Sites(settings)
        if settings.insecure:
            logger.warning("callers are not authenticated: CONSILIUM_INSECURE is set")
        else:
            self.ring = KeyRing(settings.keys)
            self._following = asyncio.create_task(self.ring.follow())
            self.reader = _token_reader(settings)
            self._rate = RateLimit(settings.requests_per_minute)
        self._started = True

    async def stop(self) -> None:
        """Let nobody in any more."""
        self._started = False
        self.visitors = self._sites = None
        if self._following is not None:
            self._following.cancel()
            await asyncio.gather(self._following, return_exceptions=True)
        if self.reader is not None:
            await self.reader.keys.stop()
        self.ring = self.reader = self._rate = self._following = None

    def serves(self, path: str) -> bool:
        """Whether `path` belongs to the reading page, which is shown before anybody has signed in."""
        return self._serves_page and (path == PAGE or path.startswith(f"{PAGE}/"))

    def refuse_foreign(self, path: str, method: str, headers: Headers) -> None:
        """Raise where a browser sent the request for another site's page, and nothing but its place would let it in.

        Raises
        ------
        CrossSite, WrongHost
        """
        if self._sites is None:
            return
        of_page = self.serves(path)
        if self._checks_host or of_page:
            self._sites.check_host(headers)
        if self._insecure or of_page:
            self._sites.check_origin(method, headers, must_say=of_page)

    def cookie(self, path: str, headers: Headers) -> str | None:
        """The cookie of who signed in, where `path` is one that the reading page asks."""
        if self.visitors is None or not path.startswith(_OF_COOKIES):
            return None
        return self.visitors.cookie(headers)

    async def visitor(self, cookie: str, method: str, headers: Headers) -> Caller:
        """Who signed in and was given this `cookie`.

        Raises
        ------
        Unauthenticated, CrossSite, WrongHost, TooManyRequests, Unavailable
        """
        if self.visitors is None or self._sites is None:
            raise Unavailable("The service is starting.", retry_after_s=5)
        self._sites.check_host(headers)
        self._sites.check_origin(method, headers, must_say=True)
        return self._within_limit(await self.visitors.caller(cookie, method, headers))

    def is_ambient(self, caller: Caller) -> bool:
        """Whether `caller` was let in for being on this machine."""
        return self._insecure and caller is ANONYMOUS

    async def caller(self, token: str | None) -> Caller:
        """Whose `token` this is, and that it may ask now.

        Raises
        ------
        Unauthenticated, TooManyRequests, Unavailable
        """
        if not self._started:
            raise Unavailable("The service is starting.", retry_after_s=5)
        if self._insecure:
            return ANONYMOUS
        if token is None:
            raise Unauthenticated(given=False)
        return self._within_limit(await self._named(token))

    def _within_limit(self, caller: Caller) -> Caller:
        if self._rate is not None and (wait := self._rate.wait_s(caller.name)):
            raise TooManyRequests(wait)
        return caller

    def charge(self, caller: Caller, requests: int) -> None:
        """Count so many requests more of `caller`, whose one is being answered: what comes next waits for them."""
        if self._rate is not None and caller is not ANONYMOUS:
            self._rate.charge(caller.name, requests)

    async def _named(self, token: str) -> Caller:
        if self.ring is not None and token.startswith(f"{PREFIX}_"):
            return self.ring.caller(token)
        if self.reader is not None:
            return await self.reader.caller(token)
        raise Unauthenticated(given=True)


def refuse_unguarded(settings: Settings) -> None:
    """Raise where nobody could ever be let in, and no setting lets everybody in.

    Raises
    ------
    InputError
    KeysUnusable
        Where the file of API keys cannot be understood.
    """
    if not (settings.insecure or settings.oidc_issuer or KeyRing(settings.keys)):
        raise InputError("CONSILIUM_KEYS", str(settings.keys), _NOBODY_MAY_ASK)


def _token_reader(settings: Settings) -> TokenReader | None:
    if settings.oidc_issuer is None or settings.oidc_audience is None:
        return None
    granted = {name: frozenset(scopes) for name, scopes in settings.oidc_scopes.items()}
    claims = settings.oidc_scope_claim, granted, settings.oidc_groups_claim
    trust = Trust(settings.oidc_issuer, settings.oidc_audience, *claims)
    keys = IssuerKeys(
        settings.oidc_issuer,
        settings.oidc_jwks_url,
        refresh_s=settings.oidc_refresh_s,
        retry_s=settings.oidc_retry_s,
        most_age_s=settings.oidc_most_age_s,
    )
    return TokenReader(trust, keys)
