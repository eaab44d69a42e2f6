"""A multipart body becomes a `Form`: the JSON of the request and the bytes of the images.

The body is parsed while it arrives and stays in memory: Starlette's own parser spools files to disk, where a killed
process leaves them, and BentoML's takes a text value in a file field for a URL and fetches it. Every limit is checked
before the bytes that would break it are kept. File names and content types of images are not looked at: what an image
is, its bytes say (`consilium.ingest`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.datastructures import Headers

from consilium.errors import InputError, MalformedRequest, TooLarge, UnsupportedMedia
from consilium.schemas import nearest_key
from service.settings import Settings

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

IMAGES = "images"
REQUEST = "request"

_JSON_TYPES = (b"", b"application/json", b"text/plain", b"application/octet-stream")
_PLAIN_ENCODINGS = (b"", b"binary", b"8bit", b"7bit")


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
    boundary = _boundary(headers)
    _check_declared_length(headers, settings.max_body_bytes)
    parts = _Parts(settings)
    try:
        parser = MultipartParser(boundary, parts.callbacks())
        received = 0
        async for chunk in body:
            received += len(chunk)
            if received > settings.max_body_bytes:
                raise TooLarge("body", f"more than {settings.max_body_bytes} bytes", _at_most(settings.max_body_bytes))
            if not parts.ended:
                parser.write(chunk)
    except FormParserError:
        raise MalformedRequest("body", "broken framing", "must be multipart/form-data") from None
    if not parts.ended:
        raise MalformedRequest("body", "an unfinished part", "must end with the closing boundary")
    return parts.form()


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

    name: str = ""
    limit: int = 0
    headers: dict[bytes, bytes] = field(default_factory=dict)
    data: bytearray = field(default_factory=bytearray)


class _Parts:
    """Collects the parts of one body, within the limits."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._request: bytes | None = None
        self._images: list[bytes] = []
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

    def form(self) -> Form:
        return Form(b"{}" if self._request is None else self._request, tuple(self._images))

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
        if name not in (IMAGES, REQUEST):
            nearest = nearest_key(name, (IMAGES, REQUEST))
            raise InputError("form field", name, f"is no known form field; the nearest is {nearest!r}")
        self._part.name = name
        if encoding not in _PLAIN_ENCODINGS:
            shown = encoding.decode("latin-1")
            raise UnsupportedMedia(f"{name}.Content-Transfer-Encoding", shown, "must be absent or binary")
        if name == REQUEST:
            self._open_request()
        else:
            self._open_image(is_file=b"filename" in options)

    def _open_request(self) -> None:
        if self._request is not None:
            raise InputError(REQUEST, "two form fields", "must come once")
        content_type, _ = parse_options_header(self._part.headers.get(b"content-type"))
        if content_type not in _JSON_TYPES:
            shown = content_type.decode("latin-1")
            raise UnsupportedMedia(f"{REQUEST}.Content-Type", shown, "must be application/json")
        self._part.limit = self._settings.max_request_bytes

    def _open_image(self, *, is_file: bool) -> None:
        where = f"{IMAGES}[{len(self._images)}]"
        if not is_file:
            raise InputError(where, "a text value", "must be a file with its bytes; a URL is never fetched")
        if len(self._images) >= self._settings.max_images:
            limit = self._settings.max_images
            raise TooLarge(IMAGES, f"more than {limit} files", f"must be at most {limit} files")
        self._part.limit = self._settings.max_image_bytes

    def _extend(self, data: bytes, start: int, end: int) -> None:
        part = self._part
        if len(part.data) + end - start > part.limit:
            where = REQUEST if part.name == REQUEST else f"{IMAGES}[{len(self._images)}]"
            raise TooLarge(where, f"more than {part.limit} bytes", _at_most(part.limit))
        part.data += memoryview(data)[start:end]

    def _close(self) -> None:
        if self._part.name == REQUEST:
            self._request = bytes(self._part.data)
        else:
            self._images.append(bytes(self._part.data))

    def _end(self) -> None:
        self.ended = True
