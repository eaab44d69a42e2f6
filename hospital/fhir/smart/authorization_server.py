"""The authorisation server of a record system: where to send a browser, and what a code is exchanged for.

Source: SMART App Launch 2.2, EHR launch; RFC 6749, RFC 7636.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import httpx

from consilium.domain.errors import ConsiliumError
from consilium.system.http_bodies import AS_THEY_ARE, UnusableBody, read_body_async
from hospital.store.clock import Clock

_LARGEST_ANSWER = 1 << 20
_KNOWN_FOR = timedelta(hours=1)
_ID = re.compile(r"[A-Za-z0-9.-]{1,64}")
_REFERENCE = re.compile(r"(?:ImagingStudy|ServiceRequest)/[A-Za-z0-9.-]{1,64}")
_MOST_REFERENCES = 10


class RecordSystemUnusable(ConsiliumError):
    """The record system does not answer as SMART wants it. The message names no patient and quotes no token."""


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Of one authorisation server."""

    authorize: str
    token: str


@dataclass(frozen=True, slots=True)
class LaunchContext:
    """What a token's answer says of the launch; it is kept no longer than a page takes.

    Attributes
    ----------
    token : str
    patient : str
        Id of the Patient resource.
    references : tuple of str
        Imaging studies and orders that are open in the record system (`fhirContext`).
    """

    token: str = field(repr=False)
    patient: str = field(repr=False)
    references: tuple[str, ...] = field(repr=False)


@dataclass
class RecordSystem:
    """One record system that launches the gateway.

    Parameters
    ----------
    issuer : str
        Base of its FHIR server, as it stands in the launch (``iss``).
    http : httpx.AsyncClient
    client_id, client_secret
        The gateway's registration; a public client has no secret.
    redirect : str
        The gateway's address for the answer.
    """

    issuer: str
    http: httpx.AsyncClient = field(repr=False)
    client_id: str
    client_secret: str | None = field(repr=False)
    scopes: tuple[str, ...]
    redirect: str
    clock: Clock
    _endpoints: tuple[datetime, Endpoints] | None = None

    async def authorize_url(self, launch: str, state: str, challenge: str) -> str:
        """Where the browser goes.

        Raises
        ------
        RecordSystemUnusable
        """
        endpoint = (await self._discovered()).authorize
        query = {
            "response_type": "code",
            "client_id": self.client_id,
            "redirect_uri": self.redirect,
            "launch": launch,
            "scope": " ".join(self.scopes),
            "state": state,
            "aud": self.issuer,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        return f"{endpoint}{'&' if '?' in endpoint else '?'}{urlencode(query)}"

    async def exchange(self, code: str, verifier: str) -> LaunchContext:
        """What a code stands for.

        Raises
        ------
        RecordSystemUnusable
        """
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self.redirect,
            "code_verifier": verifier,
        }
        secret = self.client_secret
        if secret is None:
            form["client_id"] = self.client_id
        login = {} if secret is None else {"auth": httpx.BasicAuth(self.client_id, secret)}
        told = await self._json("POST", (await self._discovered()).token, data=form, **login)
        token, patient = told.get("access_token"), told.get("patient")
        if not isinstance(token, str) or not token or str(told.get("token_type")).lower() != "bearer":
            raise RecordSystemUnusable("the token endpoint gave no bearer token")
        if not isinstance(patient, str) or not _ID.fullmatch(patient):
            raise RecordSystemUnusable("the launch names no patient")
        return LaunchContext(token, patient, _references(told.get("fhirContext")))

    async def read(self, context: LaunchContext, reference: str) -> dict[str, Any]:
        """A resource, by its reference relative to the server.

        Raises
        ------
        RecordSystemUnusable
        """
        bearer = {"Authorization": f"Bearer {context.token}"}
        found = await self._json("GET", f"{self.issuer}/{reference}", headers=bearer)
        kind, _, name = reference.partition("/")
        if (found.get("resourceType"), found.get("id")) != (kind, name):
            raise RecordSystemUnusable(f"a {kind} was asked for, and something else came")
        return found

    async def _discovered(self) -> Endpoints:
        if self._endpoints is None or self.clock() - self._endpoints[0] >= _KNOWN_FOR:
            told = await self._json("GET", f"{self.issuer}/.well-known/smart-configuration")
            methods = told.get("code_challenge_methods_supported")
            if not isinstance(methods, list) or "S256" not in methods:
                raise RecordSystemUnusable("its smart-configuration offers no PKCE by S256")
            found = Endpoints(self._endpoint(told, "authorization"), self._endpoint(told, "token"))
            self._endpoints = self.clock(), found
        return self._endpoints[1]

    def _endpoint(self, told: Mapping[str, Any], kind: str) -> str:
        url = told.get(f"{kind}_endpoint")
        if not isinstance(url, str) or httpx.URL(url).scheme != httpx.URL(self.issuer).scheme:
            raise RecordSystemUnusable(f"its smart-configuration names no {kind} endpoint")
        return url

    async def _json(self, method: str, url: str, **options: Any) -> dict[str, Any]:
        headers = {"Accept": "application/json", **AS_THEY_ARE, **options.pop("headers", {})}
        try:
            async with self.http.stream(method, url, headers=headers, **options) as answer:
                content = await read_body_async(answer, _LARGEST_ANSWER)
            if answer.status_code != httpx.codes.OK:
                raise RecordSystemUnusable(f"it answered {answer.status_code}")
            found = httpx.Response(200, content=content).json()
        except UnusableBody as error:
            raise RecordSystemUnusable(f"its answer {error}") from None
        except (httpx.HTTPError, httpx.InvalidURL, ValueError, RecursionError) as error:
            raise RecordSystemUnusable(f"no usable answer ({type(error).__name__})") from None
        if not isinstance(found, dict):
            raise RecordSystemUnusable("its answer is no JSON object")
        return found


def _references(given: object) -> tuple[str, ...]:
    """Of fhirContext, those that say which study is meant."""
    entries = given if isinstance(given, list) else []
    named = [one.get("reference") for one in entries[:_MOST_REFERENCES] if isinstance(one, dict)]
    return tuple(one for one in named if isinstance(one, str) and _REFERENCE.fullmatch(one))
