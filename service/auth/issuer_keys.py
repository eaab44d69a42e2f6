"""The public keys of an OpenID Connect issuer, as it publishes them (RFC 7517), kept and read again in time.

They are fetched without blocking anyone who can be answered with the keys at hand, and never more often than once in an
interval, however many tokens name a key that nobody knows.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable
from typing import Any

import httpx
import jwt

from consilium.domain.errors import ConsiliumError
from service.http.problems import Unavailable

logger = logging.getLogger("consilium.service")

_DISCOVERY = "/.well-known/openid-configuration"
_FETCH_SECONDS = 5.0
_MOST_BYTES = 1 << 20


class IssuerUnusable(ConsiliumError):
    """The issuer cannot be reached, or what it publishes is not what it should be."""


class IssuerKeys:
    """The keys of one issuer, by their id.

    Parameters
    ----------
    issuer : str
        Its identifier, below which its configuration is found.
    jwks_url : str, optional
        Where its keys are; taken from its configuration unless given.
    refresh_s : float
        Age from which keys are read again.
    retry_s : float
        Least time between two attempts to read them.
    most_age_s : float
        Age from which keys are not believed any more while the issuer cannot be reached.
    transport : httpx.AsyncBaseTransport, optional
        What carries the requests; the network unless given.
    clock : callable
        Seconds that never go back.
    """

    def __init__(
        self,
        issuer: str,
        jwks_url: str | None = None,
        *,
        refresh_s: float = 300.0,
        retry_s: float = 10.0,
        most_age_s: float = 86_400.0,
        transport: httpx.AsyncBaseTransport | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._issuer = issuer
        self._jwks_url = jwks_url
        self._refresh_s, self._retry_s, self._most_age_s = refresh_s, retry_s, most_age_s
        self._transport = transport
        self._clock = clock
        self._keys: dict[str, jwt.PyJWK] = {}
        self._read_at = -float("inf")
        self._tried_at = -float("inf")
        self._reading: asyncio.Task[None] | None = None

    async def find(self, key_id: str) -> jwt.PyJWK | None:
        """The key `key_id`; None where the issuer has no such key.

        Raises
        ------
        Unavailable
            Where there are no keys to look among.
        """
        age = self._clock() - self._read_at
        known = age <= self._most_age_s and key_id in self._keys
        if not known or age > self._refresh_s:
            reading = self._read_once()
            if not known and reading is not None:
                await asyncio.shield(reading)
        if self._clock() - self._read_at > self._most_age_s:
            raise Unavailable("The issuer's keys cannot be had, so that no token can be checked.", int(self._retry_s))
        return self._keys.get(key_id)

    async def stop(self) -> None:
        """Give up a reading that is under way."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)

    def _read_once(self) -> asyncio.Task[None] | None:
        """The reading under way, or a new one where the last attempt is long enough ago."""
        if self._reading is not None and not self._reading.done():
            return self._reading
        now = self._clock()
        if now - self._tried_at < self._retry_s:
            return None
        self._tried_at = now
        self._reading = asyncio.create_task(self._read())
        return self._reading

    async def _read(self) -> None:
        try:
            async with asyncio.timeout(_FETCH_SECONDS):
                self._keys = await self._published()
        except (IssuerUnusable, TimeoutError) as error:
            logger.error("the issuer's keys were not read: %s", error or f"not within {_FETCH_SECONDS:g} s")
        else:
            self._read_at = self._clock()

    async def _published(self) -> dict[str, jwt.PyJWK]:
        async with httpx.AsyncClient(transport=self._transport, timeout=_FETCH_SECONDS) as client:
            url = self._jwks_url or await self._discovered(client)
            try:
                found = jwt.PyJWKSet.from_dict(await _json(client, url))
            except (jwt.PyJWTError, AttributeError, KeyError, TypeError, ValueError):
                raise IssuerUnusable(f"{url}: holds no keys that can be used") from None
        signing = [key for key in found.keys if key.public_key_use in (None, "sig")]
        keys = {key.key_id: key for key in signing if isinstance(key.key_id, str)}
        if not keys:
            raise IssuerUnusable(f"{url}: holds no key for signatures that has an id")
        return keys

    async def _discovered(self, client: httpx.AsyncClient) -> str:
        url = self._issuer.rstrip("/") + _DISCOVERY
        said = await _json(client, url)
        place = said.get("jwks_uri")
        if said.get("issuer") != self._issuer or not isinstance(place, str):
            raise IssuerUnusable(f"{url}: must say this issuer and a jwks_uri")
        if httpx.URL(self._issuer).scheme == "https" and not place.startswith("https://"):
            raise IssuerUnusable(f"{url}: its jwks_uri must be https, as the issuer is")
        return place


async def _json(client: httpx.AsyncClient, url: str) -> dict[str, Any]:
    data = bytearray()
    try:
        async with client.stream("GET", url) as answer:
            if answer.status_code != httpx.codes.OK:
                raise IssuerUnusable(f"{url}: answered {answer.status_code}")
            async for chunk in answer.aiter_bytes():
                data += chunk
                if len(data) > _MOST_BYTES:
                    raise IssuerUnusable(f"{url}: answered with more than {_MOST_BYTES} bytes")
        said = json.loads(data)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise IssuerUnusable(f"{url}: {type(error).__name__}") from None
    except (ValueError, RecursionError):
        raise IssuerUnusable(f"{url}: is no JSON") from None
    if not isinstance(said, dict):
        raise IssuerUnusable(f"{url}: is no JSON object")
    return said
