"""Bearer tokens of an OpenID Connect issuer: signed JWTs, checked against the issuer's published keys.

Signature, issuer, audience, expiry and subject must all be there and right. Only asymmetric algorithms are known, and a
key verifies with its own algorithm only, so that neither ``none`` nor an HMAC over the public key passes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import jwt

from service.auth.caller import Caller, Unauthenticated
from service.auth.issuer_keys import IssuerKeys
from service.scopes import Scope

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
LEEWAY_S = 30.0
"""How far the issuer's clock may be from ours."""
LONGEST_GROUP = 100
_LONGEST_TOKEN = 16_384
_LONGEST_SUBJECT = 255
"""Source: OpenID Connect Core 1.0, section 2."""


@dataclass(frozen=True, slots=True)
class Trust:
    """Which tokens are taken, and what they allow.

    Parameters
    ----------
    issuer, audience : str
        What ``iss`` and ``aud`` must be.
    claim : str
        Where the scopes or roles stand: ``scope``, or a path such as ``realm_access.roles``.
    granted : mapping
        What each scope or role of the issuer allows here. Without any, the issuer's are called as ours are.
    groups_claim : str, optional
        Where the reading groups stand, as `claim`.
    """

    issuer: str
    audience: str
    claim: str = "scope"
    granted: Mapping[str, frozenset[Scope]] = field(default_factory=dict)
    groups_claim: str | None = None

    def caller(self, claims: Mapping[str, Any]) -> Caller:
        """Who a token with these `claims` is of."""
        return Caller(f"oidc:{claims['sub']}", self.scopes(claims), self.groups(claims))

    def groups(self, claims: Mapping[str, Any]) -> frozenset[str]:
        """The reading groups of a token with `claims`."""
        names = _names(claims, self.groups_claim) if self.groups_claim else []
        return frozenset(name for name in names if 0 < len(name) <= LONGEST_GROUP and name.isprintable())

    def scopes(self, claims: Mapping[str, Any]) -> frozenset[Scope]:
        """What a token with `claims` allows; an unknown scope allows nothing."""
        granted = self.granted or {scope.value: frozenset({scope}) for scope in Scope}
        return frozenset().union(*(granted.get(name, frozenset()) for name in _names(claims, self.claim)))


class TokenReader:
    """Whose a token is, as its issuer states.

    Parameters
    ----------
    trust : Trust
    keys : IssuerKeys
        The keys that the issuer publishes.
    """

    def __init__(self, trust: Trust, keys: IssuerKeys) -> None:
        self.trust = trust
        self.keys = keys

    async def caller(self, token: str) -> Caller:
        """Whose `token` this is.

        Raises
        ------
        Unauthenticated
            Whatever is wrong with the token.
        Unavailable
            Where the issuer's keys are unavailable, so that the token cannot be checked.
        """
        return self.trust.caller(await self.claims(token, self.trust.audience))

    async def claims(self, token: str, audience: str) -> dict[str, Any]:
        """What the issuer states in `token`, which is meant for `audience`; raises as `caller`."""
        key = await self.keys.find(_key_id(token))
        if key is None:
            raise Unauthenticated(given=True)
        try:
            claims = jwt.decode(
                token,
                key,
                algorithms=ALGORITHMS,
                audience=audience,
                issuer=self.trust.issuer,
                leeway=LEEWAY_S,
                options={"require": ["exp", "iss", "aud", "sub"], "enforce_minimum_key_length": True},
            )
        except jwt.PyJWTError:
            raise Unauthenticated(given=True) from None
        subject = claims["sub"]
        if not 0 < len(subject) <= _LONGEST_SUBJECT or not subject.isprintable():
            raise Unauthenticated(given=True)
        return claims


def _key_id(token: str) -> str:
    """Which key the token names. Nothing is verified yet, so nothing else is looked at."""
    if len(token) > _LONGEST_TOKEN:
        raise Unauthenticated(given=True)
    try:
        header = jwt.get_unverified_header(token)
    except (jwt.PyJWTError, ValueError, RecursionError):
        raise Unauthenticated(given=True) from None
    key_id = header.get("kid")
    if not isinstance(key_id, str) or header.get("alg") not in ALGORITHMS:
        raise Unauthenticated(given=True)
    return key_id


def _names(claims: Mapping[str, Any], path: str) -> list[str]:
    """The names at `path`: a list, or one text with spaces between them (RFC 8693, section 4.2)."""
    # A name with dots is a claim of its own where there is one: https://hospital.example/roles.
    found: Any = claims.get(path)
    if found is None:
        found = claims
        for step in path.split("."):
            found = found.get(step) if isinstance(found, Mapping) else None
    if isinstance(found, str):
        return found.split()
    return [name for name in found if isinstance(name, str)] if isinstance(found, list) else []
