"""STOW-RS: objects that are sent to the gateway over HTTP. Source: PS3.18 10.5; its failure reasons, Table I.2-2.

What stands in Referenced SOP Sequence is on the disk and in a committed row.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from consilium.domain.errors import InputError, MalformedRequest, TooLarge, UnsupportedMedia
from hospital.dicom.instance_header import is_uid
from hospital.dicom.peers import DicomPeer
from hospital.dicom.reception import Announced, Mismatch, Receiver
from hospital.dicom.web.related_parts import DicomFile, RelatedParts, boundary_of
from hospital.store.holds import Hold, Holds
from hospital.store.received import StoreFull, StoreUnavailable

DICOM_JSON = "application/dicom+json"
NOT_UNDERSTOOD, MISMATCH, WRONG_SYNTAX = 0xC000, 0xA900, 0xC122
_RETRY_AFTER_S = 60
_LOG = logging.getLogger("consilium.gateway")


@dataclass(frozen=True, slots=True)
class WebSender:
    """Who may send over HTTP.

    Attributes
    ----------
    peer : DicomPeer
        What it is called, and whose identifiers it sends.
    token : str, optional
        SHA-256, in hex, of its bearer token.
    """

    peer: DicomPeer
    token: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class StowLimits:
    """How many requests may be under way, how many files one may hold, and how long it may pause."""

    requests: int = 8
    files: int = 5000
    pause_s: float = 30


def sender_by_token(senders: Sequence[WebSender]) -> Callable[[Request], DicomPeer | None]:
    """Who sent a request, by its bearer token."""

    def sender(request: Request) -> DicomPeer | None:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.casefold() != "bearer" or not token:
            return None
        shown = sha256(token.strip().encode()).hexdigest()
        return next((one.peer for one in senders if one.token and hmac.compare_digest(one.token, shown)), None)

    return sender


class StowIn:
    """The routes of STOW-RS.

    Parameters
    ----------
    sender : callable
        Who sent a request, None where nobody is known; by its token (`sender_by_token`), or by what the server knows
        of its certificate.
    has_room : callable
        Whether the store takes objects now.
    """

    def __init__(
        self,
        receiver: Receiver,
        holds: Holds,
        sender: Callable[[Request], DicomPeer | None],
        has_room: Callable[[], bool] = lambda: True,
        limits: StowLimits | None = None,
    ) -> None:
        self._receiver, self._holds, self._sender, self._has_room = receiver, holds, sender, has_room
        self._limits = limits or StowLimits()
        self._under_way = 0

    def routes(self) -> list[Route]:
        """For a Starlette application, below the root of DICOMweb."""
        paths = ("/studies", "/studies/{study}")
        return [Route(path, self._post, methods=["POST"]) for path in paths]

    async def _post(self, request: Request) -> Response:
        peer = self._sender(request)
        if peer is None:
            return _problem(401, "who sends is unknown", {"WWW-Authenticate": "Bearer"})
        if self._under_way >= self._limits.requests or not self._has_room():
            return _problem(503, "nothing is taken now", {"Retry-After": str(_RETRY_AFTER_S)})
        if not _accepts_json(request.headers.get("accept", "*/*")):
            return _problem(406, f"the answer is {DICOM_JSON}")
        study = request.path_params.get("study")
        if study is not None and not is_uid(study):
            return _problem(400, "the study must be a UID")
        self._under_way += 1
        try:
            return await self._received(request, peer, study)
        finally:
            self._under_way -= 1

    async def _received(self, request: Request, peer: DicomPeer, study: str | None) -> Response:
        try:
            boundary = boundary_of(request.headers.get("content-type", ""))
            with self._holds.association() as hold:
                stored = _Stored(self._receiver, peer, study, hold)
                await self._read(request, boundary, stored)
        except (ClientDisconnect, TimeoutError) as error:
            _LOG.warning("a STOW-RS request was refused: %s", type(error).__name__)
            return _problem(408, "the body must arrive without a pause")
        except (StoreFull, StoreUnavailable, OSError) as error:
            _LOG.warning("a STOW-RS request was refused: %s", type(error).__name__)
            return _problem(503, "nothing is taken now", {"Retry-After": str(_RETRY_AFTER_S)})
        except (MalformedRequest, TooLarge, UnsupportedMedia) as error:
            _LOG.warning("a STOW-RS request was refused: %s: %s", error.field, error.rule)
            return _problem(error.status, f"{error.field} {error.rule}")
        return stored.answer()

    async def _read(self, request: Request, boundary: bytes, stored: _Stored) -> None:
        with RelatedParts(boundary, self._receiver.start, stored.take, self._limits.files) as parts:
            body = request.stream()
            while True:
                async with asyncio.timeout(self._limits.pause_s):
                    piece = await anext(body, None)
                if piece is None:
                    break
                if piece:
                    await run_in_threadpool(parts.feed, piece)
            if parts.end() == 0:
                raise MalformedRequest("body", "empty", "must hold a DICOM file")


class _Stored:
    """What became of the files of one request."""

    def __init__(self, receiver: Receiver, peer: DicomPeer, study: str | None, hold: Hold) -> None:
        self._receiver, self._peer, self._study, self._hold = receiver, peer, study, hold
        self._taken: list[Announced] = []
        self._failed: list[tuple[Announced | None, int]] = []

    def take(self, file: DicomFile) -> None:
        """Store a file that arrived whole."""
        try:
            reception = file.whole()
            reception.finish(self._peer, requested=False, hold=self._hold, study=self._study)
        except Mismatch:
            self._fail(file, MISMATCH, "another instance")
        except UnsupportedMedia as error:
            self._fail(file, WRONG_SYNTAX if error.field == "TransferSyntaxUID" else NOT_UNDERSTOOD, error.field)
        except InputError as error:
            self._fail(file, NOT_UNDERSTOOD, f"{error.field}: {error.rule}")
        else:
            self._taken.append(reception.announced)

    def answer(self) -> Response:
        """200 where all are stored, 202 where some are, 409 where none is."""
        content: dict[str, Any] = {}
        if self._failed:
            content["00081198"] = _sequence([_item(one, {"00081197": _value("US", why)}) for one, why in self._failed])
        if self._taken:
            content["00081199"] = _sequence([_item(one, {}) for one in self._taken])
        status = 200 if not self._failed else 202 if self._taken else 409
        return JSONResponse(content, status, media_type=DICOM_JSON)

    def _fail(self, file: DicomFile, status: int, reason: str) -> None:
        self._failed.append((file.announced, status))
        self._receiver.counts[reason] += 1
        _LOG.warning("an object of a STOW-RS request failed with 0x%04X: %s", status, reason)


def _item(announced: Announced | None, more: dict[str, Any]) -> dict[str, Any]:
    named = (
        {}
        if announced is None
        else {"00081150": _value("UI", announced.sop_class), "00081155": _value("UI", announced.sop_instance)}
    )
    return named | more


def _value(vr: str, value: str | int) -> dict[str, Any]:
    return {"vr": vr, "Value": [value]}


def _sequence(found: list[dict[str, Any]]) -> dict[str, Any]:
    return {"vr": "SQ", "Value": found}


def _accepts_json(accept: str) -> bool:
    kinds = {part.partition(";")[0].strip().casefold() for part in accept.split(",")}
    return bool(kinds & {DICOM_JSON, "application/json", "application/*", "*/*", ""})


def _problem(status: int, detail: str, headers: dict[str, str] | None = None) -> Response:
    content = {"title": "DICOM objects were not stored", "status": status, "detail": detail}
    return JSONResponse(content, status, headers, media_type="application/problem+json")
