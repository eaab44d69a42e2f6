"""The public keys of an OpenID Connect issuer: read by PyJWT's client (RFC 7517), cached, and read again in time.

PyJWT's client blocks, and asks again with every token while an issuer is away. So it runs on a thread, at most once in
an interval however many tokens name an unknown key, and whoever can be answered with the keys at hand does not wait.
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
from consilium.system.http_bodies import AS_THEY_ARE, UnusableBody, require_plain
from service.http.problems import Unavailable

logger = logging.getLogger("consilium.service")

_DISCOVERY = "/.well-known/openid-configuration"
_PLACES = ("jwks_uri", "authorization_endpoint", "token_endpoint")
_FETCH_SECONDS = 5.0
_MOST_BYTES = 1 << 20


class IssuerUnusable(ConsiliumError):
    """The issuer cannot be reached, or what it publishes is not what it should be."""


class _Client(jwt.PyJWKClient):
    """PyJWT's client with a bound on the size and the whole time of an answer."""

    def fetch_data(self) -> dict[str, Any]:
        return fetch_json(self.uri)


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
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._issuer = issuer
        self._jwks_url = jwks_url
        self._refresh_s, self._retry_s, self._most_age_s = refresh_s, retry_s, most_age_s
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
            raise Unavailable("The issuer's keys are unavailable, so no token can be checked.", int(self._retry_s))
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
            self._keys = await asyncio.to_thread(self._published)
        except (IssuerUnusable, jwt.PyJWTError) as error:
            logger.error("the issuer's keys were not read: %s", error)
        else:
            self._read_at = self._clock()

    def _published(self) -> dict[str, jwt.PyJWK]:
        url = self._jwks_url or discover(self._issuer)["jwks_uri"]
        try:
            found = _Client(url, cache_jwk_set=False).get_signing_keys()
        except (AttributeError, KeyError, TypeError, ValueError):  # PyJWT expects every key to be an object
            raise IssuerUnusable(f"{url}: holds no usable keys") from None
        return {key.key_id: key for key in found if isinstance(key.key_id, str)}


def discover(issuer: str) -> dict[str, str]:
    """The addresses in the issuer's configuration (OpenID Connect Discovery 1.0, section 4), ``jwks_uri`` among them.

    Raises
    ------
    IssuerUnusable
    """
    url = issuer.rstrip("/") + _DISCOVERY
    configuration = fetch_json(url)
    places = {name: configuration[name] for name in _PLACES if isinstance(configuration.get(name), str)}
    if configuration.get("issuer") != issuer or "jwks_uri" not in places:
        raise IssuerUnusable(f"{url}: must name this issuer and a jwks_uri")
    if httpx.URL(issuer).scheme == "https" and not all(place.startswith("https://") for place in places.values()):
        raise IssuerUnusable(f"{url}: its jwks_uri and endpoints must be https, as the issuer is")
    return places


def fetch_json(url: str) -> dict[str, Any]:
    """The JSON object at `url`, which may redirect nowhere."""
    deadline = time.monotonic() + _FETCH_SECONDS
    data = bytearray()
    try:
        with httpx.stream("GET", url, headers=AS_THEY_ARE, timeout=_FETCH_SECONDS) as answer:
            if answer.status_code != httpx.codes.OK:
                raise IssuerUnusable(f"{url}: answered {answer.status_code}")
            require_plain(answer)
            for chunk in answer.iter_bytes():
                data += chunk
                if len(data) > _MOST_BYTES or time.monotonic() > deadline:
                    raise IssuerUnusable(f"{url}: answered more than {_MOST_BYTES} bytes or {_FETCH_SECONDS:g} s")
        found = json.loads(data)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise IssuerUnusable(f"{url}: {type(error).__name__}") from None
    except UnusableBody as error:
        raise IssuerUnusable(f"{url}: its answer {error}") from None
    except (ValueError, RecursionError):
        raise IssuerUnusable(f"{url}: is no JSON") from None
    if not isinstance(found, dict):
        raise IssuerUnusable(f"{url}: is no JSON object")
    return found
