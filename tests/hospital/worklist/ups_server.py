"""A UPS-RS worklist of the tests' own, strict about states, owners and final states (PS3.4 CC, PS3.18 11)."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from hospital.configuration.network_settings import Address
from hospital.running.http.http_server import bound

DataSet = dict[str, Any]
JSON = "application/dicom+json"
STATE, TRANSACTION, PERFORMED, PROGRESS = "00741000", "00081195", "00741216", "00741002"
NEEDED = ("00404028", "00404050", "00404051", "00404019", "00404033")
"""Of a performed procedure, in either final state: PS3.4, Table CC.2.5-3."""
NEEDED_OF_CANCELED = ("00404052", "0074100E")


def value(data: DataSet, tag: str) -> Any:
    return (data.get(tag, {}).get("Value") or [None])[0]


def element(vr: str, *values: Any) -> DataSet:
    return {"vr": vr, "Value": list(values)}


def code(value: str, scheme: str = "99SITE") -> DataSet:
    return {"00080100": element("SH", value), "00080102": element("SH", scheme), "00080104": element("LO", value)}


def work_item(item: str, *studies: str, patient: str | None = None, **changes: Any) -> DataSet:
    """A scheduled work item whose input is ready."""
    made = {
        "00080018": element("UI", item),
        STATE: element("CS", "SCHEDULED"),
        "00404041": element("CS", "READY"),
        "00741200": element("CS", "MEDIUM"),
        "00404005": element("DT", "20260302070000+0000"),
        "00404018": element("SQ", code("CHEST-AI")),
        "00404021": element("SQ", *({"0020000D": element("UI", study)} for study in studies)),
    }
    if patient is not None:
        made["00100020"] = element("LO", patient)
    return made | changes


@dataclass
class UpsServer:
    """The worklist.

    Attributes
    ----------
    items : dict
        By UID, as they are shown.
    owners : dict
        UID → Transaction UID.
    refused : list of str
        Why a request was refused.
    told : dict
        UID → progress, percent by percent.
    notes_requests : bool
        Whether a request to cancel stands in the work item, too, as no standard says that it must.
    """

    items: dict[str, DataSet] = field(default_factory=dict)
    owners: dict[str, str] = field(default_factory=dict)
    claims: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    told: dict[str, list[str]] = field(default_factory=dict)
    subscribed: set[tuple[str, str]] = field(default_factory=set)
    channels: dict[str, WebSocket] = field(default_factory=dict)
    url: str = "http://worklist"
    notes_requests: bool = False

    def add(self, made: DataSet) -> str:
        self.items[value(made, "00080018")] = made
        return str(value(made, "00080018"))

    def state(self, item: str) -> str:
        return str(value(self.items[item], STATE))

    def has_claims(self, number: int) -> bool:
        return len(self.claims) >= number

    def performed(self, item: str) -> DataSet:
        return dict(value(self.items[item], PERFORMED))

    def outputs(self, item: str) -> list[tuple[str, str]]:
        """SOP Class and Instance UIDs of what was made."""
        found = self.performed(item)["00404033"].get("Value", [])
        named = [one for output in found for one in output["00081199"]["Value"]]
        return [(value(one, "00081150"), value(one, "00081155")) for one in named]

    def client(self, transport: httpx.AsyncBaseTransport | None = None) -> httpx.AsyncClient:
        return httpx.AsyncClient(base_url=self.url, transport=transport or httpx.ASGITransport(self.application()))

    def application(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/workitems", self._search),
                Route("/workitems/{item}", self._retrieve, methods=["GET"]),
                Route("/workitems/{item}", self._update, methods=["POST"]),
                Route("/workitems/{item}/state", self._change, methods=["PUT"]),
                Route("/workitems/{item}/cancelrequest", self._cancel, methods=["POST"]),
                Route("/workitems/{item}/subscribers/{title}", self._subscribe, methods=["POST"]),
                WebSocketRoute("/subscribers/{title}", self._channel),
            ]
        )

    async def _search(self, request: Request) -> Response:
        asked = {key: given for key, given in request.query_params.items() if key[0].isdigit()}
        found = [one for one in self.items.values() if all(_fits(one, key, given) for key, given in asked.items())]
        start, most = int(request.query_params["offset"]), int(request.query_params["limit"])
        page = found[start : start + most]
        return JSONResponse(page, media_type=JSON) if page else Response(status_code=204)

    async def _retrieve(self, request: Request) -> Response:
        found = self.items.get(request.path_params["item"])
        return Response(status_code=404) if found is None else JSONResponse([found], media_type=JSON)

    async def _change(self, request: Request) -> Response:
        item, asked = request.path_params["item"], await _body(request)
        wanted, owner = value(asked, STATE), value(asked, TRANSACTION)
        if item not in self.items:
            return Response(status_code=404)
        if wanted not in ("IN PROGRESS", "COMPLETED", "CANCELED") or not owner:
            return self._refuse(400, "a state and a Transaction UID must be given")
        if wanted == self.state(item) != "IN PROGRESS":
            return Response(status_code=200, headers={"Warning": f"299 worklist: The UPS is already {wanted}"})
        problem = self._unclaimable(item) if wanted == "IN PROGRESS" else self._unfinished(item, owner, wanted)
        if problem:
            return self._refuse(409, problem)
        if wanted == "IN PROGRESS":
            self.owners[item] = owner
            self.claims.append(item)
        self.items[item][STATE] = element("CS", wanted)
        return Response(status_code=200)

    def _unclaimable(self, item: str) -> str | None:
        return None if self.state(item) == "SCHEDULED" else f"it is {self.state(item)}"

    def _unfinished(self, item: str, owner: str, state: str) -> str | None:
        if self.state(item) != "IN PROGRESS" or self.owners[item] != owner:
            return f"it is {self.state(item)}, or another performer's"
        performed = value(self.items[item], PERFORMED) or {}
        missing = [tag for tag in NEEDED if tag not in performed]
        if state == "CANCELED":
            missing += [tag for tag in NEEDED_OF_CANCELED if tag not in (value(self.items[item], PROGRESS) or {})]
        return f"a final state needs {missing}" if missing else None

    async def _update(self, request: Request) -> Response:
        item, asked = request.path_params["item"], await _body(request)
        if item not in self.items:
            return Response(status_code=404)
        owner = asked.pop(TRANSACTION, {"Value": [None]})["Value"][0]
        if STATE in asked or owner is None or owner != request.query_params.get("transaction"):
            return self._refuse(400, "a state is not updated, and the owner must show its Transaction UID")
        if self.state(item) != "IN PROGRESS" or self.owners[item] != owner:
            return self._refuse(409, f"it is {self.state(item)}, or another performer's")
        self.items[item] |= asked
        if (percent := value(value(asked, PROGRESS) or {}, "00741004")) is not None:
            self.told.setdefault(item, []).append(percent)
        return Response(status_code=200)

    async def _cancel(self, request: Request) -> Response:
        item = request.path_params["item"]
        if self.state(item) == "SCHEDULED":
            self.items[item][STATE] = element("CS", "CANCELED")
        elif self.state(item) != "IN PROGRESS":
            return self._refuse(409, f"it is {self.state(item)}")
        elif self.notes_requests:
            asked = {"00741238": element("LT", "ordered twice")}
            self.items[item][PROGRESS] = element("SQ", {**(value(self.items[item], PROGRESS) or {}), **asked})
        for subscriber, title in self.subscribed:
            if subscriber == item and title in self.channels:
                await self.channels[title].send_text(json.dumps(cancel_requested(item)))
        return Response(status_code=202)

    async def _subscribe(self, request: Request) -> Response:
        self.subscribed.add((request.path_params["item"], request.path_params["title"]))
        return Response(status_code=201, headers={"Content-Location": f"{self.url}/subscribers"})

    async def _channel(self, channel: WebSocket) -> None:
        await channel.accept()
        self.channels[channel.path_params["title"]] = channel
        try:
            while True:
                await channel.receive_text()
        except WebSocketDisconnect:
            self.channels.pop(channel.path_params["title"], None)

    def _refuse(self, status: int, why: str) -> Response:
        self.refused.append(why)
        return Response(status_code=status, headers={"Warning": f"299 worklist: {why}"})


def cancel_requested(item: str) -> DataSet:
    """The event that tells a performer."""
    return {
        "00000002": element("UI", "1.2.840.10008.5.1.4.34.6.4"),
        "00000110": element("US", 1),
        "00001000": element("UI", item),
        "00001002": element("US", 2),
        "00741238": element("LT", "ordered twice"),
    }


def _fits(data: DataSet, key: str, wanted: str) -> bool:
    outer, _, inner = key.partition(".")
    if not inner:
        return value(data, outer) == wanted
    return any(_fits(one, inner, wanted) for one in data.get(outer, {}).get("Value", []))


async def _body(request: Request) -> DataSet:
    assert request.headers["content-type"] == JSON
    return dict(await request.json())


@contextmanager
def serving(server: UpsServer) -> Iterator[UpsServer]:
    """Answer over HTTP for as long as the block runs."""
    listener = bound(Address("127.0.0.1", 0), "worklist")
    config = uvicorn.Config(server.application(), log_config=None, lifespan="off", ws="wsproto")
    running = uvicorn.Server(config)
    thread = threading.Thread(target=lambda: asyncio.run(running.serve(sockets=[listener])), daemon=True)
    thread.start()
    server.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    try:
        yield server
    finally:
        running.should_exit = True
        thread.join()
