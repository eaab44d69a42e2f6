"""Transactions to a FHIR server: one POST each, and what its answer means for the outbox."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import httpx

from consilium.system.http_bodies import AS_THEY_ARE, read_body_async
from hospital.delivery.destinations import Refused, TryAgain, Unreachable
from hospital.store.state import QueuedDelivery

MEDIA_TYPE = "application/fhir+json"
_LATER = (408, 409, 423, 425, 429)
"""Not now: a conflict of two writers, and everything that asks to wait."""
_UNAUTHORISED = (401, 403)
_MOST_BYTES = 4 << 20

Authorise = Callable[[], Awaitable[Mapping[str, str]]]
"""Headers that authorise a request, asked for before each: a token may end. May raise `Unreachable`."""


class TransactionSender:
    """A destination that takes transactions, `hospital.delivery.destinations.DeliverySender`.

    Parameters
    ----------
    client : httpx.AsyncClient
        Of the server: with its base URL, TLS and time limits. It is closed with the sender.
    authorise : Authorise, optional
    """

    def __init__(self, client: httpx.AsyncClient, authorise: Authorise | None = None) -> None:
        self._client = client
        self._authorise = authorise
        self._base = str(client.base_url).rstrip("/")

    async def send(self, queued: QueuedDelivery) -> None:
        """Post the transaction. Raises as the protocol says; messages name no identifier."""
        headers = {"Content-Type": MEDIA_TYPE, "Accept": MEDIA_TYPE, **AS_THEY_ARE}
        try:
            headers |= {} if self._authorise is None else await self._authorise()
            asked = self._client.stream("POST", self._base, content=queued.delivery.content, headers=headers)
            async with asked as answer:
                body = await _body(answer)
        except httpx.TransportError as error:
            raise Unreachable(f"no answer ({type(error).__name__})") from None
        _judge(answer, body)

    async def close(self) -> None:
        await self._client.aclose()


class ResourceSender(TransactionSender):
    """A destination that takes resources of one type, such as AuditEvent, one POST each."""

    def __init__(self, client: httpx.AsyncClient, kind: str, authorise: Authorise | None = None) -> None:
        super().__init__(client, authorise)
        self._base = f"{self._base}/{kind}"


async def _body(answer: httpx.Response) -> dict[str, Any]:
    """Of JSON; nothing where it cannot be read, since the status says what became of the request."""
    try:
        found = httpx.Response(200, content=await read_body_async(answer, _MOST_BYTES)).json()
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _judge(answer: httpx.Response, body: dict[str, Any]) -> None:
    status = answer.status_code
    if status >= 500 or status in _UNAUTHORISED or answer.is_redirect:
        # Whoever is not let in now sends nothing else either, and nothing of it is lost meanwhile.
        raise Unreachable(f"HTTP {status}")
    if status in _LATER:
        raise TryAgain(f"HTTP {status}")
    if not answer.is_success:
        raise Refused(f"HTTP {status}{_issues(body)}")
    if (failed := _failed_entries(body)) is not None:
        raise Refused(f"HTTP {status}, but {failed}")


def _issues(body: dict[str, Any]) -> str:
    """The codes of an OperationOutcome; its texts may quote what was sent."""
    issues = body.get("issue")
    codes = [one.get("code") for one in issues if isinstance(one, dict)] if isinstance(issues, list) else []
    known = [code for code in codes if isinstance(code, str) and code.replace("-", "").isalpha() and len(code) < 32]
    return f" ({', '.join(dict.fromkeys(known[:5]))})" if known else ""


def _failed_entries(body: dict[str, Any]) -> str | None:
    """What of a transaction was not done, on a server that is not atomic; None: everything was, or it does not say."""
    entries = body.get("entry")
    if not isinstance(entries, list):
        return None
    responses = [one.get("response") for one in entries if isinstance(one, dict)]
    states = [str(one.get("status", "")) for one in responses if isinstance(one, dict)]
    failed = sum(state[:1] in ("4", "5") for state in states)
    return f"{failed} of {len(states)} entries were not done" if failed else None
