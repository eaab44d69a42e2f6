"""Signing in at an OpenID Connect issuer: authorization code with PKCE, all of it between this service and the issuer.

The browser carries `state`, `nonce` and the code verifier in one sealed cookie that no script can read, and gets no
token at all. Each answer of the issuer is taken once.

Source: OpenID Connect Core 1.0, section 3.1; RFC 7636; RFC 9207; RFC 9700, section 2.1.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import logging
import re
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal
from urllib.parse import quote, urlencode

import httpx
import jwt

from consilium.domain.errors import ConsiliumError
from consilium.system.http_bodies import AS_THEY_ARE, UnusableBody, read_body_async
from service.auth.caller import Caller, Unauthenticated
from service.auth.issuer_keys import IssuerUnusable, discover
from service.auth.oidc import TokenReader
from service.http.problems import Unavailable
from service.page.cookies import Cookie
from service.page.session_store import Identity
from service.page.sessions import Seal, Sessions, is_secure
from service.settings import Settings

logger = logging.getLogger("consilium.service")

Reason = Literal["refused", "expired", "no-rights", "unavailable"]
CALLBACK = "/read/oidc/callback"
_PATIENCE_S = 600
"""How long somebody may take to sign in at the issuer."""
_CONFIGURED_FOR_S = 3600.0
_FETCH_SECONDS = 5.0
_MOST_BYTES = 1 << 18
_LONGEST_NAME = 100
_PLACE = re.compile(r"|new|model|operations|sessions|studies/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)
"""Where one may go on to, below `/read/`: never elsewhere, whatever a link says."""
_HASHES = {"256": hashlib.sha256, "384": hashlib.sha384, "512": hashlib.sha512}


class SignInFailed(ConsiliumError):
    """Nobody signs in by this answer; `reason` is what the page may say."""

    def __init__(self, reason: Reason, why: str) -> None:
        super().__init__(why)
        self.reason = reason
        # `why` is ours, or the issuer's error code: it quotes no token and no person.
        logger.warning("sign-in failed: %s", why)


@dataclass(frozen=True, slots=True)
class _Attempt:
    """What the browser carries to the issuer and back, sealed."""

    state: str
    nonce: str
    verifier: str
    place: str
    until: float

    @classmethod
    def begin(cls, place: str) -> _Attempt:
        state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
        return cls(state, nonce, verifier, place, time.time() + _PATIENCE_S)

    @property
    def challenge(self) -> str:
        """S256 of the verifier (RFC 7636, section 4.2)."""
        return _base64url(hashlib.sha256(self.verifier.encode()).digest())

    def to_text(self) -> str:
        return json.dumps([self.state, self.nonce, self.verifier, self.place, self.until])


class CodeFlow:
    """One issuer, at which this service is a client.

    Parameters
    ----------
    reader : TokenReader
        Checks the issuer's signatures.
    sessions : Sessions
        Remembers which answers were taken.
    """

    patience_s = _PATIENCE_S

    def __init__(self, settings: Settings, client: str, reader: TokenReader, sessions: Sessions) -> None:
        self._settings = settings
        self._client = client
        self._reader = reader
        self._sessions = sessions
        self._seal = Seal(sessions.keys, "sign-in")
        self._callback = f"{settings.page_url}{CALLBACK}"
        self._places: dict[str, str] = {}
        self._read_at = -float("inf")

    async def start(self, place: str) -> tuple[str, str]:
        """The issuer's address for a browser, and what that browser keeps meanwhile.

        Parameters
        ----------
        place : str
            Where to go on to afterwards, below `/read/`.

        Raises
        ------
        SignInFailed
        """
        attempt = _Attempt.begin(place if _PLACE.fullmatch(place) else "")
        asked = {
            "response_type": "code",
            "client_id": self._client,
            "redirect_uri": self._callback,
            "scope": self._settings.oidc_sign_in_scope,
            "state": attempt.state,
            "nonce": attempt.nonce,
            "code_challenge": attempt.challenge,
            "code_challenge_method": "S256",
        }
        endpoint = (await self._configured())["authorization_endpoint"]
        return f"{endpoint}{'&' if '?' in endpoint else '?'}{urlencode(asked)}", self._seal.seal(attempt.to_text())

    async def finish(self, answer: Mapping[str, str], held: str | None) -> tuple[Identity, str]:
        """Who signed in, and where they wanted to go.

        Parameters
        ----------
        answer : mapping
            What the issuer had the browser bring: `code` and `state`, or `error`.
        held : str or None
            What the browser kept.

        Raises
        ------
        SignInFailed
        """
        attempt = self._attempt(held)
        if not hmac.compare_digest(answer.get("state", "").encode(), attempt.state.encode()):
            raise SignInFailed("refused", "state is not this browser's")
        if not await self._sessions.spend(attempt.state, datetime.now(UTC) + timedelta(seconds=2 * _PATIENCE_S)):
            raise SignInFailed("refused", "an answer of the issuer came twice")
        if answer.get("iss", self._settings.oidc_issuer) != self._settings.oidc_issuer:
            raise SignInFailed("refused", "the answer is another issuer's")
        if "code" not in answer:
            raise SignInFailed("refused", f"the issuer answered {_shown(answer.get('error', 'no code'))}")
        return await self._identity(await self._tokens(answer["code"], attempt.verifier), attempt.nonce), attempt.place

    def _attempt(self, held: str | None) -> _Attempt:
        text = None if held is None else self._seal.unseal(held)
        if text is None:
            raise SignInFailed("expired", "the browser did not begin this sign-in, or long ago")
        attempt = _Attempt(*json.loads(text))
        if time.time() > attempt.until:
            raise SignInFailed("expired", "the sign-in took too long")
        return attempt

    async def _configured(self) -> dict[str, str]:
        """The issuer's endpoints."""
        if not self._places or time.monotonic() - self._read_at > _CONFIGURED_FOR_S:
            try:
                places = await asyncio.to_thread(discover, str(self._settings.oidc_issuer))
            except IssuerUnusable as error:
                raise SignInFailed("unavailable", str(error)) from None
            if not {"authorization_endpoint", "token_endpoint"} <= places.keys():
                raise SignInFailed("unavailable", "the issuer names no authorization_endpoint and token_endpoint")
            self._places, self._read_at = places, time.monotonic()
        return self._places

    async def _tokens(self, code: str, verifier: str) -> dict[str, Any]:
        """What the issuer gives for the code."""
        given = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self._callback,
            "code_verifier": verifier,
            "client_id": self._client,
        }
        secret = self._settings.oidc_client_secret
        # RFC 6749, section 2.3.1: both are encoded as in a form.
        basic = None if secret is None else (quote(self._client, ""), quote(secret.get_secret_value(), ""))
        endpoint = (await self._configured())["token_endpoint"]
        try:
            async with asyncio.timeout(_FETCH_SECONDS), httpx.AsyncClient(timeout=_FETCH_SECONDS) as client:
                status, body = await _post(client, endpoint, given, basic)
        except (httpx.HTTPError, TimeoutError) as error:
            raise SignInFailed("unavailable", f"the token endpoint did not answer: {type(error).__name__}") from None
        found = _object(body)
        if status != httpx.codes.OK or not isinstance(found.get("id_token"), str):
            raise SignInFailed("refused", f"the token endpoint answered {status} {_shown(found.get('error', ''))}")
        return found

    async def _identity(self, tokens: dict[str, Any], nonce: str) -> Identity:
        access = tokens.get("access_token")
        try:
            claims = await self._reader.claims(tokens["id_token"], self._client)
            _check_id_token(claims, tokens, nonce, self._client)
            caller = await self._rights(claims, access)
        except Unauthenticated:
            raise SignInFailed("refused", "a token of the issuer does not hold") from None
        except Unavailable as error:
            raise SignInFailed("unavailable", str(error)) from None
        if not caller.scopes:
            raise SignInFailed("no-rights", "the issuer grants this person no scope of this service")
        return Identity(caller.name, _name(claims), "oidc", caller.scopes, caller.groups)

    async def _rights(self, claims: dict[str, Any], access: object) -> Caller:
        """What the person may do, by the token that the settings name."""
        if self._settings.oidc_rights == "id_token":
            return self._reader.trust.caller(claims)
        if not isinstance(access, str):
            raise SignInFailed("refused", "the issuer gave no access token")
        caller = await self._reader.caller(access)
        if caller.name != f"oidc:{claims['sub']}":
            raise SignInFailed("refused", "the two tokens are of two people")
        return caller


def code_flow(settings: Settings, reader: TokenReader, sessions: Sessions) -> CodeFlow | None:
    """How people sign in, where the settings make this service a client of the issuer."""
    if settings.oidc_client_id is None:
        return None
    return CodeFlow(settings, settings.oidc_client_id, reader, sessions)


def sign_in_cookie(settings: Settings) -> Cookie:
    """The cookie of an attempt: the issuer, another site, leads the browser back with it."""
    return Cookie("consilium-sign-in", is_secure(settings), "lax")


def _check_id_token(claims: dict[str, Any], tokens: dict[str, Any], nonce: str, client: str) -> None:
    """What is checked of an ID token beside signature, issuer, audience and expiry.

    Source: OpenID Connect Core 1.0, sections 3.1.3.7 and 3.1.3.8.
    """
    if not hmac.compare_digest(str(claims.get("nonce", "")).encode(), nonce.encode()):
        raise SignInFailed("refused", "the ID token is of another sign-in")
    audiences = claims["aud"] if isinstance(claims["aud"], list) else [claims["aud"]]
    if claims.get("azp", client) != client or (len(audiences) > 1 and "azp" not in claims):
        raise SignInFailed("refused", "the ID token was issued to another client")
    if "at_hash" in claims and claims["at_hash"] != _at_hash(tokens):
        raise SignInFailed("refused", "the access token is not the ID token's")


def _at_hash(tokens: dict[str, Any]) -> str:
    algorithm = str(jwt.get_unverified_header(tokens["id_token"])["alg"])
    # EdDSA over Ed25519 hashes with SHA-512.
    digest = _HASHES.get(algorithm[-3:], hashlib.sha512)(str(tokens.get("access_token", "")).encode()).digest()
    return _base64url(digest[: len(digest) // 2])


async def _post(
    client: httpx.AsyncClient, url: str, form: dict[str, str], basic: tuple[str, str] | None
) -> tuple[int, bytes]:
    """Status and body of the answer; only as much of the body as tokens may take."""
    headers = {"Accept": "application/json", **AS_THEY_ARE}
    async with client.stream("POST", url, data=form, headers=headers, auth=basic) as answer:
        try:
            return answer.status_code, await read_body_async(answer, _MOST_BYTES)
        except UnusableBody as error:
            raise SignInFailed("unavailable", f"the token endpoint's answer {error}") from None


def _object(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _name(claims: Mapping[str, Any]) -> str:
    """What the person is called on the page."""
    for claim in ("name", "preferred_username", "sub"):
        name = claims.get(claim)
        if isinstance(name, str) and name.strip() and name.isprintable():
            return name.strip()[:_LONGEST_NAME]
    return str(claims["sub"])


def _shown(code: object) -> str:
    """An error code of the issuer's where it can stand in a log (RFC 6749, section 4.1.2.1)."""
    return code if isinstance(code, str) and re.fullmatch(r"[a-z_]{1,40}", code, re.ASCII) else "another error"


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
