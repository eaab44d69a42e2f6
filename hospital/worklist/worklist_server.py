"""A UPS-RS worklist, as its task performer asks it. Source: PS3.18 11.5-11.10."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx

from consilium.domain.errors import ConsiliumError
from consilium.system.http_bodies import AS_THEY_ARE, UnusableBody, read_body_async
from hospital.worklist.performed_steps import element
from hospital.worklist.work_items import STATE, DataSet

_JSON = "application/dicom+json"
_LATER = (401, 403, 408, 425, 429, 500, 502, 503, 504)
_LARGEST_ANSWER = 16 << 20
_PAGE, _MOST_ITEMS = 200, 2_000


class WorklistFailure(ConsiliumError):
    """The worklist did not do what it was asked for. The message names neither patient nor identifier."""


class WorklistAway(WorklistFailure):
    """It gives no answer, or none that can be used: the same may be asked later."""


class WorkItemGone(WorklistFailure):
    """It has no such work item."""


class Conflict(WorklistFailure):
    """The work item is in another state, or another performer's."""


@dataclass(frozen=True, slots=True)
class WorklistServer:
    """One worklist.

    Attributes
    ----------
    name : str
        In the configuration.
    http : httpx.AsyncClient
        With the root of its DICOMweb services as base URL, its credentials, certificate and time-outs.
    """

    name: str
    http: httpx.AsyncClient = field(repr=False)

    async def search(self, wanted: Mapping[str, str]) -> AsyncIterator[DataSet]:
        """Work items that match, as far as the worklist heeds what is wanted.

        Raises
        ------
        WorklistFailure
        """
        seen = 0
        while seen < _MOST_ITEMS:
            pages = {"limit": str(_PAGE), "offset": str(seen), "includefield": "all"}
            answer = await self._asked("GET", "/workitems", (200, 204), params={**wanted, **pages})
            found = [] if answer.status_code == 204 else self._data_sets(answer)
            for one in found:
                yield one
            seen += len(found)
            if len(found) < _PAGE:
                return

    async def retrieve(self, item: str) -> DataSet:
        """A work item.

        Raises
        ------
        WorklistFailure
        """
        found = self._data_sets(await self._asked("GET", f"/workitems/{item}", (200,)))
        if not found:
            raise WorklistAway(f"{self.name}: answered with no work item")
        return found[0]

    async def change_state(self, item: str, transaction: str, state: str) -> None:
        """Claim, complete or cancel a work item.

        Raises
        ------
        WorklistFailure
        """
        asked = {"00081195": element("UI", transaction), STATE: element("CS", state)}
        await self._asked("PUT", f"/workitems/{item}/state", (200,), json=asked)

    async def update(self, item: str, transaction: str, changes: DataSet) -> None:
        """Change attributes of a work item that is ours.

        The Transaction UID stands in the data set, where PS3.4 wants it, and in the query, where PS3.18 does.

        Raises
        ------
        WorklistFailure
        """
        content = {"00081195": element("UI", transaction), **changes}
        query = {"transaction": transaction}
        await self._asked("POST", f"/workitems/{item}", (200,), params=query, json=content)

    async def subscribe(self, item: str, ae_title: str) -> None:
        """Be told of what others ask of a work item.

        Raises
        ------
        WorklistFailure
        """
        path = f"/workitems/{item}/subscribers/{ae_title}"
        await self._asked("POST", path, (200, 201), params={"deletionlock": "false"})

    async def _asked(self, method: str, path: str, accepted: tuple[int, ...], **options: Any) -> httpx.Response:
        kind = {"Content-Type": _JSON} if "json" in options else {}
        headers = {"Accept": _JSON, **AS_THEY_ARE, **kind}
        try:
            async with self.http.stream(method, path, headers=headers, **options) as answer:
                content = await read_body_async(answer, _LARGEST_ANSWER)
        except UnusableBody as error:
            raise WorklistAway(f"{self.name}: the answer {error}") from None
        except httpx.HTTPError as error:
            raise WorklistAway(f"{self.name}: no answer ({type(error).__name__})") from None
        if answer.status_code not in accepted:
            raise self._failure(answer.status_code)
        return httpx.Response(answer.status_code, content=content)

    def _failure(self, status: int) -> WorklistFailure:
        kinds = {404: WorkItemGone, 410: WorkItemGone, 400: Conflict, 409: Conflict}
        failure = WorklistAway if status in _LATER else kinds.get(status, WorklistAway)
        return failure(f"{self.name}: answered {status}")

    def _data_sets(self, answer: httpx.Response) -> list[DataSet]:
        """Of a list, or the one that stands alone."""
        try:
            found = answer.json()
        except (ValueError, RecursionError):
            raise WorklistAway(f"{self.name}: the answer is no JSON") from None
        return [one for one in (found if isinstance(found, list) else [found]) if isinstance(one, dict)]
