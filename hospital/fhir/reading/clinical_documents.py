"""DocumentReference and DiagnosticReport: texts of the record as notes, by the site's table of documents."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Awaitable, Callable, Iterator
from datetime import datetime
from html.parser import HTMLParser

from consilium.domain.encoded_text import decode_text
from consilium.domain.errors import InputError
from hospital.fhir.reading.laboratory_values import STATUSES
from hospital.fhir.reading.resource_fields import (
    Reading,
    Resource,
    codes,
    effective,
    identity,
    instant,
    issued,
    objects,
    text,
    version,
)
from hospital.store.received import Code, ReceivedNote, Status

LARGEST_ATTACHMENT = 4 << 20
_LONGEST_NOTE = 100_000
_READ_KINDS = ("text/plain", "text/html", "application/xhtml+xml")
_CHARSET = re.compile(r"""charset\s*=\s*["']?([A-Za-z0-9._-]{1,40})""", re.IGNORECASE)
_IMAGING = frozenset({"RAD", "RX", "CT", "NMR", "NMS", "RUS", "OUS", "VUS", "CUS", "XRC", "LP29684-5", "18748-4"})
"""Sections (v2-0074) and LOINC parts of reports of images, which give the answer away."""

Fetch = Callable[[str, str], Awaitable[bytes]]
"""The bytes of an attachment, by its URL and content type."""


async def note_of(resource: Resource, known: Reading, fetch: Fetch) -> ReceivedNote | None:
    """The note that a document is at this site; None where it is no kind of note, or has no status that counts."""
    named = _names(resource)
    kind = known.terminology.documents.of(named)
    status = _status(resource)
    if kind is None or status is None:
        return None
    content, problem = "", None
    if any(code.value in _IMAGING for code in named):
        problem = "it is a report of images, which gives the answer away"
    elif status is not Status.WITHDRAWN:
        content, problem = await _text(resource, fetch)
    return ReceivedNote(
        patient=known.patient,
        accession=None,
        key=identity(resource),
        version=version(resource),
        status=status,
        issued=issued(resource, known),
        kind=kind,
        text=content,
        time=_time(resource, known),
        source=known.source,
        problem=problem,
    )


def _names(resource: Resource) -> list[Code]:
    """The codes of type and category."""
    categories = [code for one in objects(resource, "category") for code in codes(one)]
    return [*codes(resource.get("type")), *codes(resource.get("code")), *categories]


def _status(resource: Resource) -> Status | None:
    if text(resource, "resourceType") == "DiagnosticReport":
        return STATUSES.get(text(resource, "status"))
    if text(resource, "status") in ("superseded", "entered-in-error"):
        return Status.WITHDRAWN
    return STATUSES.get(text(resource, "docStatus") or "final") if text(resource, "status") == "current" else None


def _time(resource: Resource, known: Reading) -> datetime | None:
    """When it was written: of a document its date, of a report when it holds, else when it was issued."""
    for written in (text(resource, "date"), text(resource, "issued")):
        if effective(resource, known) is None and (moment := instant(written, known.zone)) is not None:
            return moment
    return effective(resource, known)


async def _text(resource: Resource, fetch: Fetch) -> tuple[str, str | None]:
    """The text of the first attachment that has one, else the conclusion; and why it is not used."""
    problem = "it has no text that is read"
    for attachment in _attachments(resource):
        kind = text(attachment, "contentType").partition(";")[0].strip().lower()
        if kind not in _READ_KINDS:
            continue
        try:
            found = _decoded(await _bytes(attachment, kind, fetch), text(attachment, "contentType"))
        except (InputError, binascii.Error, ValueError, LookupError):
            problem = "its attachment cannot be read"
            continue
        return _bounded(plain_text(found) if kind != "text/plain" else found.strip())
    return _bounded(text(resource, "conclusion")) if text(resource, "conclusion") else ("", problem)


def _decoded(data: bytes, content_type: str) -> str:
    """Text in the declared charset, else in Unicode."""
    declared = _CHARSET.search(content_type)
    return data.decode(declared[1]) if declared else decode_text(data, "attachment")


def _bounded(found: str) -> tuple[str, str | None]:
    if len(found) > _LONGEST_NOTE:
        return "", f"it has more than {_LONGEST_NOTE} characters"
    return found, None if found else "it is empty"


def _attachments(resource: Resource) -> Iterator[Resource]:
    yield from (one["attachment"] for one in objects(resource, "content") if isinstance(one.get("attachment"), dict))
    yield from objects(resource, "presentedForm")


async def _bytes(attachment: Resource, kind: str, fetch: Fetch) -> bytes:
    """What is attached, in the resource or at its URL."""
    data = text(attachment, "data")
    if len(data) > LARGEST_ATTACHMENT * 4 // 3 + 4:
        raise InputError("attachment", "too long", f"must have at most {LARGEST_ATTACHMENT} bytes")
    if data:
        return base64.b64decode(re.sub(r"\s", "", data), validate=True)
    return await fetch(text(attachment, "url"), kind) if text(attachment, "url") else b""


class _Text(HTMLParser):
    """What a browser would show of HTML, a line for each block."""

    hidden = frozenset({"script", "style", "head", "template", "noscript"})
    blocks = frozenset(
        {"p", "div", "br", "li", "tr", "h1", "h2", "h3", "h4", "h5", "h6", "table", "ul", "ol", "section"}
    )

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self._hidden: str | None = None

    def handle_starttag(self, tag: str, attrs: object) -> None:
        del attrs
        if self._hidden is None and tag in self.hidden:
            self._hidden = tag
        if tag in self.blocks:
            self.parts.append("\n")
        elif tag in ("td", "th"):
            self.parts.append(" ")

    def handle_endtag(self, tag: str) -> None:
        if tag == self._hidden:
            self._hidden = None
        elif tag in self.blocks:
            self.parts.append("\n")

    def handle_data(self, data: str) -> None:
        if self._hidden is None:
            self.parts.append(re.sub(r"\s+", " ", data))


def plain_text(html: str) -> str:
    """The text of HTML, without what is no text."""
    parser = _Text()
    parser.feed(html)
    parser.close()
    lines = (re.sub(r" +", " ", line).strip() for line in "".join(parser.parts).split("\n"))
    return "\n".join(line for line in lines if line)
