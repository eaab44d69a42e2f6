"""SMART Backend Services: an access token for a signed assertion, asked for once and renewed before it ends.

Source: SMART App Launch 2.2, Backend Services and Asymmetric Client Authentication (private_key_jwt).
"""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import httpx
import jwt
from cryptography.hazmat.primitives.asymmetric.ec import SECP384R1, EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from consilium.domain.errors import ConsiliumError, InputError
from consilium.system.http_bodies import AS_THEY_ARE, read_body_async
from hospital.store.clock import Clock, system_clock

_ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_ASSERTION_LIFE = timedelta(minutes=4)
"""The profile allows five minutes."""
_RENEWED_BEFORE = timedelta(seconds=30)
_SHORTEST_RSA_KEY = 2048
_LARGEST_ANSWER = 1 << 16


class NotAuthorised(ConsiliumError):
    """No token: the authorisation server refuses, or does not answer."""


@dataclass(frozen=True)
class SigningKey:
    """A private key and the algorithm that goes with it: ES384, or RS384."""

    key: EllipticCurvePrivateKey | RSAPrivateKey = field(repr=False)
    key_id: str

    @classmethod
    def read(cls, pem: str, key_id: str) -> SigningKey:
        """The key of a PEM text; `InputError`, without the text, where it is none for ES384 or RS384."""
        rule = f"must be a private key in PEM: EC on P-384, or RSA of at least {_SHORTEST_RSA_KEY} bits"
        try:
            key = load_pem_private_key(pem.encode(), None)
        except (ValueError, TypeError):
            raise InputError("backend_service.key", "something else", rule) from None
        elliptic = isinstance(key, EllipticCurvePrivateKey) and isinstance(key.curve, SECP384R1)
        if not elliptic and not (isinstance(key, RSAPrivateKey) and key.key_size >= _SHORTEST_RSA_KEY):
            raise InputError("backend_service.key", type(key).__name__, rule)
        assert isinstance(key, EllipticCurvePrivateKey | RSAPrivateKey)
        return cls(key, key_id)

    @property
    def algorithm(self) -> str:
        return "ES384" if isinstance(self.key, EllipticCurvePrivateKey) else "RS384"


@dataclass
class BackendToken:
    """The token of one client at one server.

    Parameters
    ----------
    base : str
        Of the FHIR server; its ``.well-known/smart-configuration`` names the token endpoint unless `token_url` does.
    """

    http: httpx.AsyncClient
    base: str
    client_id: str
    key: SigningKey
    token_url: str | None = None
    scopes: Sequence[str] = ("system/*.rs",)
    clock: Clock = system_clock
    _token: str | None = field(default=None, repr=False)
    _ends: datetime | None = None
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def token(self) -> str:
        """A token that holds for a while.

        Raises
        ------
        NotAuthorised
        """
        async with self._lock:
            if self._token is None or self._ends is None or self.clock() >= self._ends - _RENEWED_BEFORE:
                await self._renew()
            assert self._token is not None
            return self._token

    def forget(self, token: str) -> None:
        """The server refused `token`: the next one is asked for anew."""
        if self._token == token:
            self._token = None

    async def _renew(self) -> None:
        self._token = None
        endpoint = self.token_url or await self._discovered()
        form = {
            "grant_type": "client_credentials",
            "scope": " ".join(self.scopes),
            "client_assertion_type": _ASSERTION,
            "client_assertion": self._assertion(endpoint),
        }
        answer = await self._json("POST", endpoint, data=form)
        token, life = answer.get("access_token"), answer.get("expires_in")
        if not isinstance(token, str) or not token or str(answer.get("token_type")).lower() != "bearer":
            raise NotAuthorised("the token endpoint gave no bearer token")
        self._token = token
        self._ends = self.clock() + timedelta(seconds=life if isinstance(life, int) and 0 < life < 86400 else 300)

    def _assertion(self, endpoint: str) -> str:
        now = self.clock()
        claims = {
            "iss": self.client_id,
            "sub": self.client_id,
            "aud": endpoint,
            "iat": int(now.timestamp()),
            "exp": int((now + _ASSERTION_LIFE).timestamp()),
            "jti": uuid.uuid4().hex,
        }
        return jwt.encode(claims, self.key.key, self.key.algorithm, headers={"kid": self.key.key_id})

    async def _discovered(self) -> str:
        found = (await self._json("GET", f"{self.base}/.well-known/smart-configuration")).get("token_endpoint")
        if not isinstance(found, str) or httpx.URL(found).scheme != httpx.URL(self.base).scheme:
            raise NotAuthorised("the server's smart-configuration names no token endpoint")
        return found

    async def _json(self, method: str, url: str, data: dict[str, str] | None = None) -> dict[str, Any]:
        try:
            headers = {"Accept": "application/json", **AS_THEY_ARE}
            async with self.http.stream(method, url, data=data, headers=headers) as answer:
                if answer.status_code != httpx.codes.OK:
                    raise NotAuthorised(f"authorisation was answered {answer.status_code}")
                found = json.loads(await read_body_async(answer, _LARGEST_ANSWER))
        except (httpx.HTTPError, ValueError, RecursionError) as error:
            raise NotAuthorised(f"authorisation failed: {type(error).__name__}") from None
        if not isinstance(found, dict):
            raise NotAuthorised("authorisation was answered by something else than a JSON object")
        return found
