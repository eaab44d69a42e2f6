"""Public keys of an issuer, from the one URL that the configuration lists."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import httpx
import jwt

from consilium.system.http_bodies import AS_THEY_ARE, read_body_async
from hospital.fhir.cds.cds_tokens import ALGORITHMS
from hospital.store.clock import Clock

logger = logging.getLogger("consilium.gateway")

_KEPT = timedelta(hours=1)
_NOT_BEFORE = timedelta(seconds=30)
_MOST_BYTES = 1 << 20
_MOST_KEYS = 100


class KeySet:
    """A key set (JWKS) that is fetched anew after an hour, or where a key is not in it, but twice a minute at most.

    Keys that were fetched are used on where the issuer gives no answer.
    """

    def __init__(self, http: httpx.AsyncClient, url: str, clock: Clock) -> None:
        self._http = http
        self._url = url
        self._clock = clock
        self._keys: Mapping[str, jwt.PyJWK] = {}
        self._fetched: datetime | None = None
        self._lock = asyncio.Lock()

    async def __call__(self, name: str) -> jwt.PyJWK | None:
        """The key of that id; see `hospital.fhir.cds.cds_tokens.FindKey`."""
        async with self._lock:
            if self._outdated(name):
                self._fetched = self._clock()
                await self._fetch()
        return self._keys.get(name)

    def _outdated(self, name: str) -> bool:
        if self._fetched is None:
            return True
        age = self._clock() - self._fetched
        return age >= _KEPT or (age >= _NOT_BEFORE and name not in self._keys)

    async def _fetch(self) -> None:
        try:
            self._keys = _read(await self._got())
        except (httpx.HTTPError, ValueError) as error:
            logger.warning("the keys of a CDS client cannot be had: %s", type(error).__name__)

    async def _got(self) -> bytes:
        async with self._http.stream("GET", self._url, headers=AS_THEY_ARE) as answer:
            answer.raise_for_status()
            return await read_body_async(answer, _MOST_BYTES)


def _read(data: bytes) -> dict[str, jwt.PyJWK]:
    """Keys that may sign, by their ids; others are passed over. `ValueError` where it is no key set."""
    try:
        given: Any = httpx.Response(200, content=data).json()
    except RecursionError:
        raise ValueError("no key set") from None
    keys = given.get("keys") if isinstance(given, dict) else None
    if not isinstance(keys, list):
        raise ValueError("no key set")
    found = {}
    for one in keys[:_MOST_KEYS]:
        name = one.get("kid") if isinstance(one, dict) else None
        if isinstance(name, str) and (key := _key(one)) is not None:
            found[name] = key
    return found


def _key(given: Mapping[str, Any]) -> jwt.PyJWK | None:
    """With its algorithm, where it leaves that to its kind."""
    kinds = {("EC", "P-384"): "ES384", ("RSA", None): "RS384"}
    algorithm = given.get("alg") or kinds.get((str(given.get("kty")), given.get("crv")))
    if algorithm not in ALGORITHMS or given.get("use") not in (None, "sig"):
        return None
    try:
        return jwt.PyJWK({**given, "alg": algorithm})
    except (jwt.PyJWTError, ValueError, TypeError):
        return None
