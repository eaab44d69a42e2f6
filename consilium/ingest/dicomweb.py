"""A DICOMweb archive as a source of studies: QIDO-RS names them, WADO-RS gives their instances (PS3.18 10.4, 10.6).

What the server sends is untrusted: answers are bounded, and only well-formed UIDs go into further requests.
"""

from __future__ import annotations

import math
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from email.message import Message
from http import HTTPStatus
from typing import Any, Self

import httpx
from pydicom.uid import UID

from consilium.domain.errors import ConsiliumError
from consilium.system.http_bodies import AS_THEY_ARE, UnusableBody, require_plain

_UID = re.compile(r"(?=.{1,64}$)[0-9]+(\.[0-9]+)*")
_STUDY, _SERIES, _INSTANCE, _SOP_CLASS = "0020000D", "0020000E", "00080018", "00080016"
_JSON = "application/dicom+json"
_PART10 = 'multipart/related; type="application/dicom"; transfer-syntax=*'
_MOST_JSON = 64 << 20
_ATTEMPTS = 4
_BUSY = {
    HTTPStatus.TOO_MANY_REQUESTS,
    HTTPStatus.BAD_GATEWAY,
    HTTPStatus.SERVICE_UNAVAILABLE,
    HTTPStatus.GATEWAY_TIMEOUT,
}
_LONGEST_PAUSE_S = 60.0


class DicomWebError(ConsiliumError):
    """The archive cannot be asked, or its answer not be used. Names the status or the rule, and no study."""


class ArchiveTooSlow(DicomWebError):
    """The whole of an answer did not come in the time that it may take."""


class InstanceUnavailable(DicomWebError):
    """What was asked for is not there, or no longer, or cannot be taken; another may be."""


class InstanceMissing(InstanceUnavailable):
    """The archive says that it does not have it."""


@dataclass(frozen=True, slots=True)
class FoundInstance:
    """An instance that the archive says it has.

    Attributes
    ----------
    kind : str
        Name of its SOP class; empty where that is private or not given.
    """

    study: str
    series: str
    instance: str
    kind: str

    @property
    def may_hold_image(self) -> bool:
        """As `consilium.ingest.dicom_index.IndexedFile.may_hold_image`."""
        return not self.kind or "Image" in self.kind


class DicomWeb:
    """A client of one archive; a context manager, or closed by `close`.

    Parameters
    ----------
    url : str
        Root of its services: ``https://pacs.hospital.example/dicom-web``.
    token : str, optional
        Sent as bearer token.
    most_bytes : int
        A larger instance is refused while it arrives.
    timeout : float
        Seconds without a byte after which a request is given up.
    seconds : float, optional
        What one request may take in all, with its further attempts: seconds, after which its connection is cut,
        whatever comes on it.
    page : int
        Studies asked for at once.
    transport : httpx.BaseTransport, optional
        What carries the requests; the network unless given.
    pause : callable
        Waits that many seconds before another attempt.
    """

    def __init__(
        self,
        url: str,
        token: str | None = None,
        *,
        most_bytes: int = 1 << 30,
        timeout: float = 60.0,
        seconds: float = math.inf,
        page: int = 500,
        transport: httpx.BaseTransport | None = None,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        headers = AS_THEY_ARE | ({} if token is None else {"Authorization": f"Bearer {token}"})
        # What is cut is the request's own.
        limits = httpx.Limits() if seconds == math.inf else httpx.Limits(max_keepalive_connections=0)
        self._client = httpx.Client(headers=headers, timeout=timeout, transport=transport, limits=limits)
        self._root, self._most, self._page, self._pause = url.rstrip("/"), most_bytes, page, pause
        self._seconds = seconds

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._client.close()

    def studies(self, matching: Mapping[str, str] | None = None) -> Iterator[str]:
        """Study Instance UIDs of the studies that match, each once, page by page.

        Parameters
        ----------
        matching : mapping of str to str
            Of QIDO-RS: ``{"ModalitiesInStudy": "DX", "StudyDate": "20250101-20251231"}``.

        Raises
        ------
        DicomWebError
        """
        seen: set[str] = set()
        offset = 0
        while True:
            asked = {**(matching or {}), "limit": str(self._page), "offset": str(offset)}
            found = [_uid(one, _STUDY) for one in self._query("/studies", asked)]
            new = [uid for uid in dict.fromkeys(found) if uid not in seen]
            yield from new
            seen.update(new)
            offset += len(found)
            if not new:  # the end, or a server that pages not at all
                return

    def instances(self, study: str) -> list[FoundInstance]:
        """What the archive has of a study, by series and instance.

        Raises
        ------
        InstanceUnavailable, DicomWebError
        """
        found = self._query(f"/studies/{study}/instances", {"includefield": _SOP_CLASS})
        if not found:
            raise InstanceUnavailable("the archive has no instance of the study")
        named = [
            FoundInstance(study, _uid(one, _SERIES), _uid(one, _INSTANCE), _class_name(_value(one, _SOP_CLASS)))
            for one in found
        ]
        return sorted(named, key=lambda one: (one.series, one.instance))

    def retrieve(self, one: FoundInstance) -> bytes:
        """The instance as a DICOM file, in the syntax in which the archive has it.

        Raises
        ------
        InstanceUnavailable, DicomWebError
        """
        path = f"/studies/{one.study}/series/{one.series}/instances/{one.instance}"
        content_type, body = self._get(path, {}, _PART10, self._most)
        return _only_part(content_type, body)

    def _query(self, path: str, asked: Mapping[str, str]) -> list[Any]:
        _, body = self._get(path, asked, _JSON, _MOST_JSON)
        if not body:
            return []  # 204: nothing matches
        try:
            found = httpx.Response(HTTPStatus.OK, content=body).json()
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, list):
            raise DicomWebError("the archive's answer to a query must be a list of DICOM JSON objects")
        return found

    def _get(self, path: str, asked: Mapping[str, str], accept: str, most: int) -> tuple[str, bytes]:
        until = time.monotonic() + self._seconds
        options: dict[str, Any] = {"params": asked, "headers": {"Accept": accept}}
        for attempt in range(_ATTEMPTS):
            try:
                with (
                    _cut_at(until) as extensions,
                    self._client.stream("GET", self._root + path, extensions=extensions, **options) as answer,
                ):
                    if answer.status_code not in _BUSY or attempt == _ATTEMPTS - 1:
                        _require_found(answer.status_code)
                        require_plain(answer)
                        return answer.headers.get("content-type", ""), _read(answer, most, until)
                    wait = _retry_after(answer.headers.get("retry-after"), attempt)
            except httpx.HTTPError as error:
                if time.monotonic() >= until:
                    raise ArchiveTooSlow("the archive did not answer in the time that it has") from None
                if attempt == _ATTEMPTS - 1:
                    raise DicomWebError(f"the archive cannot be reached ({type(error).__name__})") from None
                wait = float(2**attempt)
            except UnusableBody as error:
                raise DicomWebError(f"the archive's answer {error}") from None
            except httpx.InvalidURL:
                raise DicomWebError("the archive's address is no URL") from None
            wait = min(wait, _LONGEST_PAUSE_S)
            if time.monotonic() + wait > until:
                raise ArchiveTooSlow("the archive cannot be reached in the time that it has")
            self._pause(wait)
        raise AssertionError("the last attempt returns or raises")


def _require_found(status: int) -> None:
    if status in (HTTPStatus.NOT_FOUND, HTTPStatus.GONE):
        raise InstanceMissing("the archive does not have it")
    if status not in (HTTPStatus.OK, HTTPStatus.NO_CONTENT, HTTPStatus.PARTIAL_CONTENT):
        raise DicomWebError(f"the archive answered with status {status}")


@contextmanager
def _cut_at(until: float) -> Iterator[dict[str, Any]]:
    """Extensions of a request on a connection of its own, which is shut down at `until`."""
    if until == math.inf:
        yield {}
        return
    opened: list[socket.socket] = []

    def cut() -> None:
        for one in opened:
            with suppress(OSError):
                # Of TLS, too, the connection below it: another thread is reading.
                socket.socket.shutdown(one, socket.SHUT_RDWR)

    def note(event: str, details: Mapping[str, Any]) -> None:
        if event.endswith(("connect_tcp.complete", "start_tls.complete")):
            opened.append(details["return_value"].get_extra_info("socket"))
            if time.monotonic() >= until:
                cut()

    timer = threading.Timer(min(max(until - time.monotonic(), 0), threading.TIMEOUT_MAX), cut)
    timer.daemon = True
    timer.start()
    try:
        yield {"trace": note}
    finally:
        timer.cancel()


def _read(answer: httpx.Response, most: int, until: float) -> bytes:
    parts, size = [], 0
    for part in answer.iter_bytes():
        size += len(part)
        if time.monotonic() > until:
            break
        if size > most:
            raise InstanceUnavailable(f"an answer of the archive is larger than {most} bytes")
        parts.append(part)
    if time.monotonic() >= until:  # also where the end is that of a connection which was cut
        raise ArchiveTooSlow("an answer of the archive did not end in the time that it has")
    return b"".join(parts)


def _retry_after(given: str | None, attempt: int) -> float:
    return float(given) if given and given.isascii() and given.isdigit() else float(2**attempt)


def _only_part(content_type: str, body: bytes) -> bytes:
    """The first part of a multipart body; a body that is none is the file itself."""
    message = Message()
    message["Content-Type"] = content_type
    boundary = message.get_param("boundary")
    if message.get_content_maintype() != "multipart" or not isinstance(boundary, str):
        return body
    delimiter = b"--" + boundary.encode("latin-1", "replace")
    start = body.find(delimiter)
    head = body.find(b"\r\n\r\n", start)
    end = body.find(b"\r\n" + delimiter, head)
    if min(start, head, end) < 0:
        raise InstanceUnavailable("the archive's answer must be a whole multipart body")
    return body[head + 4 : end]


def _value(one: Any, tag: str) -> str:
    try:
        return str(one[tag]["Value"][0])
    except (KeyError, IndexError, TypeError):
        return ""


def _uid(one: Any, tag: str) -> str:
    found = _value(one, tag)
    if not _UID.fullmatch(found):
        raise DicomWebError(f"the archive's answer must hold a UID ({tag}) for each match")
    return found


def _class_name(uid: str) -> str:
    name = UID(uid).name if _UID.fullmatch(uid) else uid
    return "" if name == uid else name
