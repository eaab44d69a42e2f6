"""A multipart body becomes a `Form`, the JSON of the request and the bytes of the files, or one for each study.

The body is parsed while it arrives and stays in memory: Starlette's own parser spools files to disk, where a killed
process leaves them, and BentoML's takes a text value in a file field for a URL and fetches it. Every limit is checked
before the bytes that would break it are kept. File names and content types of files are not looked at: what a file
is, its bytes say (`consilium.ingest`). Which files there are, the modalities declare.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from email.message import Message
from email.utils import collapse_rfc2231_value

from multipart import MultipartError, MultipartSegment, PushMultipartParser
from starlette.datastructures import Headers

from consilium.api.schemas import split_worklist
from consilium.domain.errors import InputError, MalformedRequest, TooLarge, UnsupportedMedia
from consilium.formats.sent_records import nearest_key
from consilium.modalities.registry import file_inputs
from service.settings import Settings

REQUEST = "request"
REQUESTS = "requests"

_JSON_TYPES = ("", "application/json", "text/plain", "application/octet-stream")
_PLAIN_ENCODINGS = ("", "binary", "8bit", "7bit")
_LONGEST_CONTENT_TYPE = 1000
_LONGEST_BOUNDARY = 256
"""RFC 2046 allows 70; some clients do not know."""
_LONGEST_PREAMBLE = 4096
_SHORT_PIECE = 1 << 14
"""Each piece of a file costs its reader a system call."""
_OPTION = r"""; ?([A-Za-z-]+)=([\w.-]+|"[^"\\\x00-\x1f\x7f-\uffff]+")"""
_PLAIN_OPTION = re.compile(_OPTION, re.ASCII)
_PLAIN_HEADER = re.compile(f"[\\w./+-]+(?:{_OPTION})*", re.ASCII)
"""Without what RFC 2231 and quoting allow beside: escapes, continuations, character sets, further blanks."""
_FILES_OF_A_STUDY = re.compile(r"(\w+)\.(0|[1-9][0-9]{0,5})", re.ASCII)


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class FileBytes:
    """What one file's part holds, in the pieces in which it came: joined, megabytes would be copied once more."""

    pieces: tuple[bytes, ...]

    def __len__(self) -> int:
        return sum(map(len, self.pieces))

    def __bytes__(self) -> bytes:
        return b"".join(self.pieces)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FileBytes) and bytes(self) == bytes(other)

    __hash__ = None  # type: ignore[assignment]


@dataclass(frozen=True, slots=True, repr=False)
class Form:
    """One request's parts. `request` is the JSON as received; an absent one is an empty object, and of
    each name of files there is one at least.

    Nothing shows what is in it, as asyncio would in a task's representation: it is a patient's, and megabytes.
    """

    request: bytes = b"{}"
    files: Mapping[str, tuple[FileBytes, ...]] = field(default_factory=dict)

    @property
    def contents(self) -> tuple[FileBytes, ...]:
        """Every file."""
        return tuple(data for files in self.files.values() for data in files)

    @property
    def shape(self) -> bytes:
        """How many bytes the request and each file have, by name, as JSON."""
        sizes = {name: [len(data) for data in files] for name, files in sorted(self.files.items())}
        return json.dumps([len(self.request), sizes]).encode()


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
        Where a part has an unknown name, comes twice, or a file's part holds a text value.
    """
    parts = _Parts(settings)
    await _read(headers, body, settings.max_body_bytes, parts)
    return Form(b"{}" if parts.json is None else parts.json, parts.files_of(0))


async def read_worklist(headers: Headers, body: AsyncIterator[bytes], settings: Settings) -> list[Form]:
    """Read one multipart body of several studies, in their order.

    The form field ``requests`` is the JSON array of their requests; the files of the study at position i come as
    ``images.i``, and so on, in their order.

    Raises
    ------
    UnsupportedMedia, TooLarge, MalformedRequest, InputError
        As `read_form`; and where there is no study, too many, or a file of none.
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
    for study, name in parts.files:
        if study >= len(requests):
            rule = f"must be of one of the {len(requests)} studies in {REQUESTS}, which count from 0"
            raise InputError("form field", f"{name}.{study}", rule)
    return [Form(request, parts.files_of(study)) for study, request in enumerate(requests)]


async def _read(headers: Headers, body: AsyncIterator[bytes], most_bytes: int, parts: _Parts) -> None:
    boundary = _boundary(headers)
    _check_declared_length(headers, most_bytes)
    received = 0
    try:
        # File names come in whatever encoding, and are not looked at.
        parser = PushMultipartParser(boundary, header_charset="latin-1")
        preamble = _Preamble(boundary)
        async for chunk in body:
            received += len(chunk)
            if received > most_bytes:
                raise TooLarge("body", f"more than {most_bytes} bytes", _at_most(most_bytes))
            if chunk := preamble.passed(chunk):
                for event in parser.parse(chunk):
                    parts.take(event)
        parser.close()
    except MultipartError as error:
        raise MalformedRequest("body", f"broken framing ({error})", "must be whole multipart/form-data") from None


class _Preamble:
    """What stands before the first boundary, which RFC 2046 allows and nobody reads."""

    def __init__(self, boundary: bytes) -> None:
        self._first = b"--" + boundary
        self._held = b""
        self._over = False

    def passed(self, chunk: bytes) -> bytes:
        """What of the body up to and with `chunk` belongs to its parts and was not passed before."""
        if self._over:
            return chunk
        self._held += chunk
        place = self._held.find(self._first)
        if (place if place >= 0 else len(self._held)) > _LONGEST_PREAMBLE:
            raise MalformedRequest("body", "no boundary at its begin", "must begin with the boundary of its parts")
        if place > 0 and not self._held.endswith(b"\r\n", 0, place):
            raise MalformedRequest("body", "a boundary amid a line", "must have each boundary at the begin of a line")
        if place < 0:
            return b""
        self._over = True
        return self._held[place:]


def _boundary(headers: Headers) -> bytes:
    given = headers.get("content-type", "")
    if len(given) > _LONGEST_CONTENT_TYPE:
        rule = f"must have at most {_LONGEST_CONTENT_TYPE} characters"
        raise MalformedRequest("Content-Type", f"{len(given)} characters", rule)
    content_type, options = parse_header(given)
    if content_type != "multipart/form-data":
        raise UnsupportedMedia("Content-Type", content_type, "must be multipart/form-data")
    refuse_encoded(headers)
    boundary = options.get("boundary", "").encode("latin-1", "replace")
    if not 0 < len(boundary) <= _LONGEST_BOUNDARY:
        rule = f"must name the boundary of the parts, of 1 to {_LONGEST_BOUNDARY} characters"
        raise MalformedRequest("Content-Type", f"a boundary of {len(boundary)} characters", rule)
    return boundary


def refuse_encoded(headers: Headers) -> None:
    """Raise where the whole body is compressed: what it would grow to is not known before it is read.

    Raises
    ------
    UnsupportedMedia
    """
    encoding = headers.get("content-encoding", "identity").strip()
    if encoding.lower() not in ("", "identity"):
        raise UnsupportedMedia("Content-Encoding", encoding, "must be absent: encoded bodies are not read")


def parse_header(value: str) -> tuple[str, dict[str, str]]:
    """A header's value in lower case, and its parameters: quoted, continued or with a character set (RFC 2231)."""
    if _PLAIN_HEADER.fullmatch(value):  # as nearly all are; the whole grammar takes seven times as long
        kind, _, rest = value.partition(";")
        return kind.lower(), {name.lower(): given.strip('"') for name, given in _PLAIN_OPTION.findall(";" + rest)}
    message = Message()
    message["content-type"] = value
    (kind, _), *options = message.get_params() or [("", "")]
    return kind.strip().lower(), {name.lower(): collapse_rfc2231_value(given) for name, given in options}


def _check_declared_length(headers: Headers, limit: int) -> None:
    declared = headers.get("content-length", "")
    # A length of more digits than any limit has is not worth the conversion.
    if declared.isdecimal() and (len(declared) > 18 or int(declared) > limit):
        raise TooLarge("body", f"{declared[:20]} bytes", _at_most(limit))


def _at_most(limit: int) -> str:
    return f"must hold at most {limit} bytes"


@dataclass(slots=True)
class _Part:
    """One part while it arrives.

    Attributes
    ----------
    file : (int, str) or None
        Whose file it is, and the name under which it is sent; None where it is the JSON.
    unnamed : bool
        A file without a name: a browser's form sends one, empty, for a field in which no file was chosen.
    """

    where: str
    file: tuple[int, str] | None
    limit: int
    unnamed: bool = False
    size: int = 0
    data: list[bytes] = field(default_factory=list)

    @property
    def content(self) -> FileBytes:
        """What came of a file; the pieces of one that trickled in are joined."""
        short = self.size < _SHORT_PIECE * len(self.data)
        return FileBytes((b"".join(self.data),) if short else tuple(self.data))


class _Parts:
    """Collects the parts of one body, within the limits.

    Attributes
    ----------
    json : bytes or None
        The form field with the records.
    files : dict of (int, str) to list of FileBytes
        Of each study and name; there is only study 0 here.
    """

    json_field = REQUEST

    def __init__(self, settings: Settings) -> None:
        self._limits = settings.limits
        self._most_json_bytes = settings.max_request_bytes
        self.json: bytes | None = None
        self.files: dict[tuple[int, str], list[FileBytes]] = {}
        self._count: Counter[tuple[int, str]] = Counter()
        self._part: _Part | None = None

    def files_of(self, study: int) -> dict[str, tuple[FileBytes, ...]]:
        """The files of one study, by name."""
        return {name: tuple(files) for (owner, name), files in self.files.items() if owner == study}

    def take(self, event: MultipartSegment | bytes | None) -> None:
        """Take what the parser gives: the headers of a part, some of its bytes, and None at its end."""
        if isinstance(event, MultipartSegment):
            self._part = self._opened({name.lower(): value for name, value in event.headerlist})
        elif event is not None:
            self._extend(event)
        else:
            self._close()

    def _opened(self, headers: Mapping[str, str]) -> _Part:
        """Decide by the headers alone whether this part may come."""
        _, options = parse_header(headers.get("content-disposition", ""))
        name = _readable(options.get("name", ""))
        encoding = headers.get("content-transfer-encoding", "").strip().lower()
        file = self._file(name)
        if name != self.json_field and file is None:
            nearest = nearest_key(name, (*self._known, self.json_field))
            raise InputError("form field", name, f"is no known form field; the nearest is {nearest!r}")
        if encoding not in _PLAIN_ENCODINGS:
            raise UnsupportedMedia(f"{name}.Content-Transfer-Encoding", encoding, "must be absent or binary")
        if file is None:
            return self._opened_json(headers)
        return self._opened_file(name, file, options.get("filename"))

    @property
    def _known(self) -> tuple[str, ...]:
        """The names of parts that are files."""
        return tuple(file_inputs())

    def _file(self, name: str) -> tuple[int, str] | None:
        """Whose file the part called `name` is, and of which input; None where it is none."""
        return (0, name) if name in file_inputs() else None

    def _opened_json(self, headers: Mapping[str, str]) -> _Part:
        if self.json is not None:
            raise InputError(self.json_field, "two form fields", "must come once")
        content_type, _ = parse_header(headers.get("content-type", ""))
        if content_type not in _JSON_TYPES:
            raise UnsupportedMedia(f"{self.json_field}.Content-Type", content_type, "must be application/json")
        return _Part(self.json_field, None, self._most_json_bytes)

    def _opened_file(self, name: str, file: tuple[int, str], filename: str | None) -> _Part:
        declared = file_inputs()[file[1]]
        limit, files = self._limits[declared.most.name], self.files.get(file, ())
        where = f"{name}[{len(files)}]"
        if filename is None:
            raise InputError(where, "a text value", "must be a file with its bytes; a URL is never fetched")
        if self._count[file] >= limit:
            raise TooLarge(name, f"more than {limit} files", f"must be at most {limit} files")
        self._count[file] += 1
        return _Part(where, file, self._limits[declared.most_bytes.name], unnamed=not filename)

    def _extend(self, data: bytes) -> None:
        part = self._part
        assert part is not None
        part.size += len(data)
        if part.size > part.limit:
            raise TooLarge(part.where, f"more than {part.limit} bytes", _at_most(part.limit))
        part.data.append(data)

    def _close(self) -> None:
        part, self._part = self._part, None
        assert part is not None
        if part.file is None:
            self.json = b"".join(part.data)
        elif part.size or not part.unnamed:
            self.files.setdefault(part.file, []).append(part.content)


def _readable(name: str) -> str:
    """The name of a form field as its client wrote it, in UTF-8; headers are read as Latin-1."""
    return name.encode("latin-1", "replace").decode("utf-8", "replace")


class _WorklistParts(_Parts):
    """The same for a body of several studies."""

    json_field = REQUESTS

    def __init__(self, settings: Settings, most_studies: int) -> None:
        super().__init__(settings)
        self._most_json_bytes = settings.max_requests_bytes
        self._most_studies = most_studies

    @property
    def _known(self) -> tuple[str, ...]:
        return tuple(f"{name}.0" for name in file_inputs())

    def _file(self, name: str) -> tuple[int, str] | None:
        found = _FILES_OF_A_STUDY.fullmatch(name)
        if found is None or found[1] not in file_inputs():
            return None
        study, most = int(found[2]), self._most_studies
        if study >= most:
            raise TooLarge("form field", name, f"must be at most {most} studies")
        return study, found[1]
