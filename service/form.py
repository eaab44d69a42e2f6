"""A multipart body becomes a `Form`, the JSON of the request and the bytes of the images, or one for each study.

The body is parsed while it arrives and stays in memory: Starlette's own parser spools files to disk, where a killed
process leaves them, and BentoML's takes a text value in a file field for a URL and fetches it. Every limit is checked
before the bytes that would break it are kept. File names and content types of images are not looked at: what an image
is, its bytes say (`consilium.ingest`).
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.datastructures import Headers

from consilium.errors import InputError, MalformedRequest, TooLarge, UnsupportedMedia
from consilium.schemas import nearest_key, split_worklist
from service.settings import Settings

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

IMAGES = "images"
REQUEST = "request"
REQUESTS = "requests"

_JSON_TYPES = (b"", b"application/json", b"text/plain", b"application/octet-stream")
_PLAIN_ENCODINGS = (b"", b"binary", b"8bit", b"7bit")
_IMAGES_OF_A_STUDY = re.compile(rf"{IMAGES}\.(0|[1-9][0-9]{{0,5}})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Form:
    """One request's parts. `request` is the JSON as received; an absent one is an empty object."""

    request: bytes = b"{}"
    images: tuple[bytes, ...] = ()


async def read_form(headers: Headers, body: AsyncIterator[bytes], settings: Settings) -> Form:
    """Read one multipart body.

    Raises
    ------
    UnsupportedMedia
        Where the body is something else than multipart/form-data, or encoded.
    TooLarge
        Where the body, a part or the number of parts exceeds its limit.
    MalformedRequest
        Where the multipart framing is broken or ends early.
    InputError
        Where a part has an unknown name, comes twice, or an image part holds a text value.
    """
    parts = _Parts(settings)
    await _read(headers, body, settings.max_body_bytes, parts)
    return Form(b"{}" if parts.json is None else parts.json, tuple(parts.images.get(0, ())))


async def read_worklist(headers: Headers, body: AsyncIterator[bytes], settings: Settings) -> list[Form]:
    """Read one multipart body of several studies, in their order.

    The form field ``requests`` is the JSON array of their requests; the images of the study at position i come as
    ``images.i``, in their order.

    Raises
    ------
    UnsupportedMedia, TooLarge, MalformedRequest, InputError
        As `read_form`; and where there is no study, too many, or an image of none.
    """
    return await _read_studies(headers, body, settings, settings.max_worklist_studies)


async def read_job(headers: Headers, body: AsyncIterator[bytes], settings: Settings) -> list[Form]:
    """The same for a job, which may have more studies than what is answered at once."""
    return await _read_studies(headers, body, settings, settings.max_job_studies)


async def _read_studies(
    headers: Headers, body: AsyncIterator[bytes], settings: Settings, most_studies: int
) -> list[Form]:
    parts = _WorklistParts(settings, most_studies)
    await _read(headers, body, settings.max_body_bytes, parts)
    if parts.json is None:
        raise InputError(REQUESTS, None, "is required")
    requests = split_worklist(parts.json, most_studies)
    for study in parts.images:
        if study >= len(requests):
            rule = f"must be of one of the {len(requests)} studies in {REQUESTS}, which count from 0"
            raise InputError("form field", f"{IMAGES}.{study}", rule)
    return [Form(request, tuple(parts.images.get(study, ()))) for study, request in enumerate(requests)]


async def _read(headers: Headers, body: AsyncIterator[bytes], most_bytes: int, parts: _Parts) -> None:
    boundary = _boundary(headers)
    _check_declared_length(headers, most_bytes)
    try:
        parser = MultipartParser(boundary, parts.callbacks())
        received = 0
        async for chunk in body:
            received += len(chunk)
            if received > most_bytes:
                raise TooLarge("body", f"more than {most_bytes} bytes", _at_most(most_bytes))
            if not parts.ended:
                parser.write(chunk)
    except FormParserError:
        raise MalformedRequest("body", "broken framing", "must be multipart/form-data") from None
    if not parts.ended:
        raise MalformedRequest("body", "an unfinished part", "must end with the closing boundary")


def _boundary(headers: Headers) -> bytes:
    content_type, options = parse_options_header(headers.get("content-type", ""))
    if content_type != b"multipart/form-data":
        raise UnsupportedMedia("Content-Type", content_type.decode("latin-1"), "must be multipart/form-data")
    encoding = headers.get("content-encoding", "identity")
    if encoding.lower() != "identity":
        raise UnsupportedMedia("Content-Encoding", encoding, "must be absent: encoded bodies are not read")
    if not options.get(b"boundary"):
        raise MalformedRequest("Content-Type", "no boundary", "must name the multipart boundary")
    return options[b"boundary"]


def _check_declared_length(headers: Headers, limit: int) -> None:
    declared = headers.get("content-length", "")
    # A length of more digits than any limit has is not worth the conversion.
    if declared.isdecimal() and (len(declared) > 18 or int(declared) > limit):
        raise TooLarge("body", f"{declared[:20]} bytes", _at_most(limit))


def _at_most(limit: int) -> str:
    return f"must hold at most {limit} bytes"


@dataclass(slots=True)
class _Part:
    """One part while it arrives."""

    where: str = ""
    study: int | None = None
    limit: int = 0
    headers: dict[bytes, bytes] = field(default_factory=dict)
    data: bytearray = field(default_factory=bytearray)


class _Parts:
    """Collects the parts of one body, within the limits.

    Attributes
    ----------
    json : bytes or None
        The form field with the records.
    images : dict of int to list of bytes
        Of each study; there is only study 0 here.
    """

    json_field = REQUEST
    images_field = IMAGES

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._most_json_bytes = settings.max_request_bytes
        self.json: bytes | None = None
        self.images: dict[int, list[bytes]] = {}
        self._part = _Part()
        self._header_name = b""
        self._header_value = b""
        self.ended = False

    def callbacks(self) -> MultipartCallbacks:
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._extend_header_name,
            "on_header_value": self._extend_header_value,
            "on_header_end": self._end_header,
            "on_headers_finished": self._open,
            "on_part_data": self._extend,
            "on_part_end": self._close,
            "on_end": self._end,
        }

    def _begin(self) -> None:
        self._part = _Part()

    def _extend_header_name(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]

    def _extend_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def _end_header(self) -> None:
        self._part.headers[self._header_name.lower()] = self._header_value
        self._header_name = self._header_value = b""

    def _open(self) -> None:
        """Decide by the headers alone whether this part may come."""
        _, options = parse_options_header(self._part.headers.get(b"content-disposition"))
        name = options.get(b"name", b"").decode("utf-8", "replace")
        encoding = self._part.headers.get(b"content-transfer-encoding", b"").strip().lower()
        study = self._study(name)
        if name != self.json_field and study is None:
            nearest = nearest_key(name, (self.images_field, self.json_field))
            raise InputError("form field", name, f"is no known form field; the nearest is {nearest!r}")
        if encoding not in _PLAIN_ENCODINGS:
            shown = encoding.decode("latin-1")
            raise UnsupportedMedia(f"{name}.Content-Transfer-Encoding", shown, "must be absent or binary")
        if study is None:
            self._open_json()
        else:
            self._open_image(name, study, is_file=b"filename" in options)

    def _study(self, name: str) -> int | None:
        """Whose image the part called `name` is; None where it is none."""
        return 0 if name == IMAGES else None

    def _open_json(self) -> None:
        if self.json is not None:
            raise InputError(self.json_field, "two form fields", "must come once")
        content_type, _ = parse_options_header(self._part.headers.get(b"content-type"))
        if content_type not in _JSON_TYPES:
            shown = content_type.decode("latin-1")
            raise UnsupportedMedia(f"{self.json_field}.Content-Type", shown, "must be application/json")
        self._part.where, self._part.limit = self.json_field, self._most_json_bytes

    def _open_image(self, name: str, study: int, *, is_file: bool) -> None:
        limit, images = self._settings.max_images, self.images.get(study, ())
        where = f"{name}[{len(images)}]"
        if not is_file:
            raise InputError(where, "a text value", "must be a file with its bytes; a URL is never fetched")
        if len(images) >= limit:
            raise TooLarge(name, f"more than {limit} files", f"must be at most {limit} files")
        self._part.where, self._part.study, self._part.limit = where, study, self._settings.max_image_bytes

    def _extend(self, data: bytes, start: int, end: int) -> None:
        part = self._part
        if len(part.data) + end - start > part.limit:
            raise TooLarge(part.where, f"more than {part.limit} bytes", _at_most(part.limit))
        part.data += memoryview(data)[start:end]

    def _close(self) -> None:
        part = self._part
        if part.study is None:
            self.json = bytes(part.data)
        else:
            self.images.setdefault(part.study, []).append(bytes(part.data))

    def _end(self) -> None:
        self.ended = True


class _WorklistParts(_Parts):
    """The same for a body of several studies."""

    json_field = REQUESTS
    images_field = f"{IMAGES}.0"

    def __init__(self, settings: Settings, most_studies: int) -> None:
        super().__init__(settings)
        self._most_json_bytes = settings.max_requests_bytes
        self._most_studies = most_studies

    def _study(self, name: str) -> int | None:
        found = _IMAGES_OF_A_STUDY.fullmatch(name)
        if found is None:
            return None
        study, most = int(found[1]), self._most_studies
        if study >= most:
            raise TooLarge("form field", name, f"must be at most {most} studies")
        return study
