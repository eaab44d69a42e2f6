"""Who calls a CDS service: the JWT that a record system signs for every request (CDS Hooks 2.0, Trusting CDS Clients).

Only ES384 and RS384, only issuers that are listed, only keys from where the listing says; what a token itself says of
its key's place (`jku`) is never followed. A token is for one URL, is short-lived, and is taken once.
"""

from __future__ import annotations

import heapq
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta

import jwt

from consilium.domain.errors import ConsiliumError
from hospital.store.clock import Clock

ALGORITHMS = ("ES384", "RS384")
LONGEST_LIFE = timedelta(minutes=5)
_LEEWAY = timedelta(seconds=30)
_LONGEST_TOKEN = 8192
_LONGEST_NAME = 256
_MOST_SEEN = 100_000


class TokenRefused(ConsiliumError):
    """A token that does not prove who calls. The reason is logged, not answered, and quotes nothing of the token."""


FindKey = Callable[[str], Awaitable["jwt.PyJWK | None"]]
"""Key id → public key of an issuer; None where it has no such key."""


@dataclass(frozen=True, slots=True)
class TrustedIssuer:
    """A record system whose tokens are taken.

    Attributes
    ----------
    keys : callable
        `FindKey`.
    key_set_url : str or None
        Where its keys are published; a token that names another place is refused.
    """

    keys: FindKey
    key_set_url: str | None = None


class SeenTokens:
    """Ids of tokens until they end; each is taken once."""

    def __init__(self, most: int = _MOST_SEEN) -> None:
        self._most = most
        self._seen: set[tuple[str, str]] = set()
        self._ends: list[tuple[float, tuple[str, str]]] = []

    def take(self, issuer: str, token: str, end: float, now: float) -> None:
        """Raise `TokenRefused` where the token was taken before, or there is no room to remember it."""
        while self._ends and self._ends[0][0] < now:
            self._seen.discard(heapq.heappop(self._ends)[1])
        key = (issuer, token)
        if key in self._seen:
            raise TokenRefused("it was used before")
        if len(self._seen) >= self._most:
            raise TokenRefused("too many tokens are remembered")
        self._seen.add(key)
        heapq.heappush(self._ends, (end, key))


class TokenCheck:
    """Checks tokens against the listed issuers.

    Tokens from before this object was made are refused: which of them were used is not known.
    """

    def __init__(self, issuers: Mapping[str, TrustedIssuer], clock: Clock) -> None:
        self._issuers = issuers
        self._clock = clock
        self._seen = SeenTokens()
        self._started = clock().timestamp()

    async def check(self, authorization: str | None, url: str) -> str:
        """The issuer of the bearer token for `url`.

        Raises
        ------
        TokenRefused
        """
        token = _bearer(authorization)
        issuer, key = await self._key(token)
        try:
            claims = jwt.decode(
                token,
                key,
                algorithms=list(ALGORITHMS),
                audience=url,
                issuer=issuer,
                options={"require": ["iss", "aud", "exp", "iat", "jti"], "verify_exp": False, "verify_iat": False},
            )
        except jwt.PyJWTError as error:
            raise TokenRefused(type(error).__name__) from None
        self._check_times(issuer, claims)
        return issuer

    async def _key(self, token: str) -> tuple[str, jwt.PyJWK]:
        try:
            head = jwt.get_unverified_header(token)
            issuer = jwt.decode(token, options={"verify_signature": False}).get("iss")
        except (jwt.PyJWTError, ValueError, RecursionError) as error:
            raise TokenRefused(type(error).__name__) from None
        if head.get("alg") not in ALGORITHMS:
            raise TokenRefused(f"its algorithm is none of {', '.join(ALGORITHMS)}")
        trusted = self._issuers.get(issuer) if isinstance(issuer, str) else None
        if trusted is None:
            raise TokenRefused("its issuer is not listed")
        if head.get("jku") not in (None, trusted.key_set_url):
            raise TokenRefused("it names another place for its keys than is listed")
        name = head.get("kid")
        key = await trusted.keys(name) if isinstance(name, str) and len(name) <= _LONGEST_NAME else None
        if key is None:
            raise TokenRefused("its issuer has no such key")
        return str(issuer), key

    def _check_times(self, issuer: str, claims: Mapping[str, object]) -> None:
        now, begun, end, name = self._clock().timestamp(), claims["iat"], claims["exp"], claims["jti"]
        if not isinstance(begun, int | float) or not isinstance(end, int | float):
            raise TokenRefused("its times are no numbers")
        if not isinstance(name, str) or not 0 < len(name) <= _LONGEST_NAME:
            raise TokenRefused("its id is no text of at most 256 characters")
        leeway = _LEEWAY.total_seconds()
        if end + leeway < now or begun - leeway > now:
            raise TokenRefused("it has ended, or has not begun")
        if end - begun > LONGEST_LIFE.total_seconds():
            raise TokenRefused(f"it lives longer than {LONGEST_LIFE}")
        if begun < self._started:
            raise TokenRefused("it is from before the start")
        self._seen.take(issuer, name, end + leeway, now)


def _bearer(authorization: str | None) -> str:
    scheme, _, token = (authorization or "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise TokenRefused("there is no bearer token")
    if len(token) > _LONGEST_TOKEN:
        raise TokenRefused("it is too long")
    return token.strip()
