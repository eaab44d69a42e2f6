"""The guard: what is known of those who may ask, from the settings; it lives as long as the service does."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from consilium.domain.errors import InputError
from service.auth.api_keys import PREFIX
from service.auth.caller import ANONYMOUS, Caller, TooManyRequests, Unauthenticated
from service.auth.issuer_keys import IssuerKeys
from service.auth.keyring import KeyRing
from service.auth.oidc import TokenReader, Trust
from service.auth.rate_limits import RateLimit
from service.http.problems import Unavailable

if TYPE_CHECKING:
    from service.settings import Settings

logger = logging.getLogger("consilium.service")

_NOBODY_MAY_ASK = (
    "must hold an API key (consilium keys create NAME), or CONSILIUM_OIDC_ISSUER must name an issuer; "
    "CONSILIUM_INSECURE=1 answers everybody on this machine"
)


class Guard:
    """Finds out who asks. Until `start` it lets nobody in."""

    def __init__(self) -> None:
        self._started = False
        self._insecure = False
        self._ring: KeyRing | None = None
        self._reader: TokenReader | None = None
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
        self._insecure = settings.insecure
        if settings.insecure:
            logger.warning("callers are not authenticated: CONSILIUM_INSECURE is set")
        else:
            self._ring = KeyRing(settings.keys)
            self._following = asyncio.create_task(self._ring.follow())
            self._reader = _token_reader(settings)
            self._rate = RateLimit(settings.requests_per_minute)
        self._started = True

    async def stop(self) -> None:
        """Let nobody in any more."""
        self._started = False
        if self._following is not None:
            self._following.cancel()
            await asyncio.gather(self._following, return_exceptions=True)
        if self._reader is not None:
            await self._reader.keys.stop()
        self._ring = self._reader = self._rate = self._following = None

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
        caller = await self._named(token)
        if self._rate is not None and (wait := self._rate.wait_s(caller.name)):
            raise TooManyRequests(wait)
        return caller

    def charge(self, caller: Caller, requests: int) -> None:
        """Count so many requests more of `caller`, whose one is being answered: what comes next waits for them."""
        if self._rate is not None and caller is not ANONYMOUS:
            self._rate.charge(caller.name, requests)

    async def _named(self, token: str) -> Caller:
        if self._ring is not None and token.startswith(f"{PREFIX}_"):
            return self._ring.caller(token)
        if self._reader is not None:
            return await self._reader.caller(token)
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
    trust = Trust(settings.oidc_issuer, settings.oidc_audience, settings.oidc_scope_claim, granted)
    keys = IssuerKeys(
        settings.oidc_issuer,
        settings.oidc_jwks_url,
        refresh_s=settings.oidc_refresh_s,
        retry_s=settings.oidc_retry_s,
        most_age_s=settings.oidc_most_age_s,
    )
    return TokenReader(trust, keys)
