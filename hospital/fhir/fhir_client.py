"""Reading from a FHIR R4 server: pages followed to an end, servers that are busy waited for, sizes bounded."""

from __future__ import annotations

import asyncio
import json
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

from consilium.domain.errors import ConsiliumError
from consilium.system.http_bodies import AS_THEY_ARE, UnusableBody, read_body_async
from hospital.fhir.backend_token import BackendToken, NotAuthorised

# It logs every URL, and those of searches name patients.
logging.getLogger("httpx").setLevel(logging.WARNING)

Resource = dict[str, Any]
Parameters = Sequence[tuple[str, str]]
_TRY_AGAIN = frozenset({429, 500, 502, 503, 504})
_FHIR_JSON = "application/fhir+json"


class FhirFault(ConsiliumError):
    """A server gave no usable answer. The message holds neither URL nor text of the server's.

    Attributes
    ----------
    status : int or None
        HTTP status.
    transient : bool
        Whether the same request may be answered later.
    """

    def __init__(self, reason: str, *, status: int | None = None, transient: bool = False) -> None:
        super().__init__(reason)
        self.status = status
        self.transient = transient


@dataclass(frozen=True, slots=True)
class FhirLimits:
    """How much is read, and how long a busy server is waited for."""

    pages: int = 50
    page_size: int = 200
    answer_bytes: int = 16 << 20
    attempts: int = 4
    answer_s: float = 120.0
    """For one answer as a whole; the client's own timeouts are between two bytes."""
    longest_wait_s: float = 60.0


@dataclass(frozen=True)
class FhirClient:
    """One server.

    Parameters
    ----------
    base : str
        Its address, without a slash at the end.
    http : httpx.AsyncClient
        With the timeouts and certificates for it, and its headers where a fixed token authorises.
    token : BackendToken, optional
    """

    base: str
    http: httpx.AsyncClient
    token: BackendToken | None = None
    limits: FhirLimits = FhirLimits()
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep

    async def search(self, kind: str, parameters: Parameters) -> AsyncIterator[Resource]:
        """Every resource of type `kind` that the server finds; one may come twice.

        A page that is gone (410) starts the search anew, once: result sets end with time.

        Raises
        ------
        FhirFault
        """
        for last in (False, True):
            try:
                async for found in self._pages(kind, parameters):
                    yield found
            except FhirFault as fault:
                if fault.status != httpx.codes.GONE or last:
                    raise
            else:
                return

    async def read(self, reference: str, accept: str = _FHIR_JSON) -> bytes:
        """What `reference` names: relative to the server, or a URL of the same server.

        Raises
        ------
        FhirFault
        """
        return await self._get(self._own(httpx.URL(self.base + "/").join(reference)), (), accept)

    async def _pages(self, kind: str, parameters: Parameters) -> AsyncIterator[Resource]:
        url = self._own(httpx.URL(f"{self.base}/{kind}"))
        given: Parameters = (*parameters, ("_count", str(self.limits.page_size)))
        seen: set[httpx.URL] = set()
        for _ in range(self.limits.pages):
            bundle = _bundle(await self._get(url, given, _FHIR_JSON))
            for entry in _objects(bundle.get("entry")):
                resource = entry.get("resource")
                if isinstance(resource, dict) and resource.get("resourceType") == kind:
                    yield resource
            links = _objects(bundle.get("link"))
            following = next((one.get("url") for one in links if one.get("relation") == "next"), None)
            if not isinstance(following, str):
                return
            url, given = self._own(url.join(following)), ()
            if url in seen:
                raise FhirFault("the server's pages lead in a circle")
            seen.add(url)
        raise FhirFault(f"more than {self.limits.pages} pages")

    def _own(self, url: httpx.URL) -> httpx.URL:
        """`url`, where it is the server's own: nothing else is shown the token."""
        base = httpx.URL(self.base)
        if (url.scheme, url.host, url.port) != (base.scheme, base.host, base.port):
            raise FhirFault("a link leads to another server")
        return url

    async def _get(self, url: httpx.URL, parameters: Parameters, accept: str) -> bytes:
        renewed = False
        attempt = 0
        while True:
            token = await self._authorisation()
            status, wait, body = await self._once(url, parameters, accept, token)
            if status == httpx.codes.OK:
                return body
            if status == httpx.codes.UNAUTHORIZED and token is not None and self.token is not None and not renewed:
                self.token.forget(token)
                renewed = True
                continue
            attempt += 1
            if status not in _TRY_AGAIN and status is not None:
                raise FhirFault(f"answered {status} {_issue(body)}".rstrip(), status=status)
            if attempt >= self.limits.attempts:
                reason = "no answer" if status is None else f"answered {status}"
                raise FhirFault(f"{reason}, {attempt} times", status=status, transient=True)
            pause = wait if wait is not None else random.uniform(0.5, 1.0) * 2**attempt
            if pause > self.limits.longest_wait_s:
                raise FhirFault(f"answered {status}, to be asked again in {pause:.0f} s", status=status, transient=True)
            await self.sleep(pause)

    async def _authorisation(self) -> str | None:
        if self.token is None:
            return None
        try:
            return await self.token.token()
        except NotAuthorised as error:
            raise FhirFault(str(error), transient=True) from None

    async def _once(
        self, url: httpx.URL, parameters: Parameters, accept: str, token: str | None
    ) -> tuple[int | None, float | None, bytes]:
        """Status (None where nothing answered), seconds that the server asks to wait, and body."""
        headers = {"Accept": accept, **AS_THEY_ARE} | ({"Authorization": f"Bearer {token}"} if token else {})
        asked = url.copy_merge_params(list(parameters)) if parameters else url
        try:
            async with (
                asyncio.timeout(self.limits.answer_s),
                self.http.stream("GET", asked, headers=headers) as answer,
            ):
                body = await read_body_async(answer, self.limits.answer_bytes)
                return answer.status_code, _wait(answer.headers.get("retry-after")), body
        except UnusableBody as error:
            raise FhirFault(f"the answer {error}") from None
        except (httpx.HTTPError, TimeoutError):
            return None, None, b""


def _objects(given: object) -> list[dict[str, Any]]:
    return [one for one in given if isinstance(one, dict)] if isinstance(given, list) else []


def _bundle(body: bytes) -> Resource:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        raise FhirFault("the answer is no JSON") from None
    if not isinstance(found, dict) or found.get("resourceType") != "Bundle":
        raise FhirFault("the answer is no Bundle")
    return found


def _issue(body: bytes) -> str:
    """The code of an OperationOutcome; its texts may quote the patient."""
    try:
        issues = _objects(json.loads(body).get("issue"))
    except (ValueError, RecursionError, AttributeError):
        return ""
    code = issues[0].get("code") if issues else None
    return code if isinstance(code, str) and code.replace("-", "").isalpha() and len(code) < 32 else ""


def _wait(header: str | None) -> float | None:
    """Seconds of a Retry-After: a number, or a date."""
    if header is None:
        return None
    if header.strip().isdigit():
        return float(header)
    try:
        return max(0.0, (parsedate_to_datetime(header) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return None
