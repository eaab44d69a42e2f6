"""`consilium gateway check`: whether the systems that gateway.yaml names answer, and which route an image takes."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_file_meta_info

from consilium.domain.errors import ConsiliumError, InputError
from consilium.formats.time_zone import TimeZone
from hospital.configuration.gateway_settings import GatewaySettings, StoreSettings
from hospital.configuration.network_settings import HttpServer
from hospital.configuration.route_settings import Hl7Destination
from hospital.dicom.instance_header import read_instance_header
from hospital.dicom.peers import DicomPeer
from hospital.dicom.requesting import PeerFailure, Requestor
from hospital.running.commands.assembled_gateway import assembled_gateway
from hospital.running.dicom_parts import dicom_peer
from hospital.running.gateway import store_location
from hospital.store.clock import system_clock
from hospital.store.gateway_store import refuse_other_key
from hospital.store.received import ReceivedInstance
from hospital.studies.rules.configured_routes import configured_routes
from hospital.studies.rules.routing import routed

_PATIENCE_S = 10.0
_PATHS = {
    "services": "/readyz",
    "fhir": "/metadata",
    "dicomweb": "/studies?limit=1",
    "worklists": "/workitems?limit=1",
}
_META_STARTS = 128 + 4 + 12
"""Preamble, prefix, and the element that says how long the file meta information is. Source: PS3.10 7.1."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a system answered; `problem` is None where all is well."""

    system: str
    asked: str
    problem: str | None = None

    def as_json(self) -> dict[str, Any]:
        return {"system": self.system, "asked": self.asked, "answer": self.problem or "it answers"}


@dataclass(frozen=True, slots=True)
class Checked:
    """What was found out; `route` is a sentence."""

    answers: tuple[Answer, ...]
    route: str | None

    @property
    def unanswered(self) -> tuple[str, ...]:
        """The systems that do not answer as they should."""
        return tuple(one.system for one in self.answers if one.problem is not None)

    def as_json(self) -> dict[str, Any]:
        return {"systems": [asdict(one) for one in self.answers], "route": self.route}


def check_settings(settings: GatewaySettings, image: Path | None, source: str | None, *, ask: bool) -> Checked:
    """Read every secret and certificate, `ask` every system, and find the route of `image`.

    Parameters
    ----------
    source : str, optional
        From which peer the image comes; unless given, the first that may send.

    Raises
    ------
    InputError
        A secret, a certificate or the image cannot be read, or the key of the store is lost or another one.
    """
    _check_key(settings, ask=ask)
    asyncio.run(_assembled(settings))
    questions = _questions(settings)
    answers = asyncio.run(_asked(questions)) if ask else []
    return Checked(tuple(answers), None if image is None else _route_of(settings, image, _source(settings, source)))


def _check_key(settings: GatewaySettings, *, ask: bool) -> None:
    """That of the store; by a database on another machine only where that may be asked."""
    location = store_location(settings)
    if ask or location.url.get_backend_name() == "sqlite":
        refuse_other_key(location)


async def _assembled(settings: GatewaySettings) -> None:
    """Make every part as `run` does, over a store that is thrown away: what each reads of files is read."""
    with TemporaryDirectory() as folder:
        aside = StoreSettings(folder=Path(folder), key_file=Path(folder) / "store.key")
        assembled_gateway(settings.model_copy(update={"store": aside}))


def _source(settings: GatewaySettings, given: str | None) -> str:
    senders = [name for name, peer in settings.peers.items() if "send" in peer.may]
    if given is not None and given not in senders:
        raise InputError("--from", given, f"must be a peer that may send: {', '.join(senders) or 'there is none'}")
    return given or next(iter(senders), "nobody")


def _questions(settings: GatewaySettings) -> list[tuple[str, str, Callable[[], None]]]:
    """Each system, what it is asked, and how."""
    found: list[tuple[str, str, Callable[[], None]]] = []
    for section in ("services", "fhir", "dicomweb", "worklists"):
        for name, server in getattr(settings, section).items():
            path = _PATHS[section]
            found.append((f"{section}.{name}", f"GET {path}", _http(f"{section}.{name}", server, path)))
    for name, peer in settings.peers.items():
        if peer.address is not None:
            title = "CONSILIUM" if settings.dicom is None else settings.dicom.ae_title
            tls = None if peer.tls is None else peer.tls.context(f"peers.{name}.tls")
            requestor = Requestor(title, tls, connect_s=_PATIENCE_S, answer_s=_PATIENCE_S)
            found.append((f"peers.{name}", "C-ECHO", partial(_echo, requestor, dicom_peer(name, peer))))
    for name, destination in settings.destinations.items():
        if isinstance(destination, Hl7Destination):
            found.append((f"destinations.{name}", "connection", partial(_connect, destination)))
    return found


def _echo(requestor: Requestor, peer: DicomPeer) -> None:
    try:
        requestor.echo(peer)
    except PeerFailure as error:
        raise ConsiliumError(str(error).removeprefix(f"{peer.name}: ")) from None


def _connect(destination: Hl7Destination) -> None:
    try:
        socket.create_connection((destination.address.host, destination.address.port), _PATIENCE_S).close()
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ConsiliumError(f"no connection to {destination.address} ({reason})") from None


def _http(field: str, server: HttpServer, path: str) -> Callable[[], None]:
    headers, tls = server.headers(field), server.tls.context(f"{field}.tls")
    url = f"{server.url}{path}"  # which has no user and no password: see `HttpServer`

    def ask() -> None:
        try:
            answer = httpx.get(url, headers=headers, verify=tls, timeout=_PATIENCE_S)
        except httpx.HTTPError as error:
            raise ConsiliumError(f"no answer from {url} ({type(error).__name__})") from None
        if answer.is_error:
            raise ConsiliumError(f"status {answer.status_code} of {url}")

    return ask


async def _asked(questions: list[tuple[str, str, Callable[[], None]]]) -> list[Answer]:
    """All at once: a system that does not answer takes its time."""

    async def asked(system: str, question: str, ask: Callable[[], None]) -> Answer:
        try:
            await asyncio.to_thread(ask)
        except ConsiliumError as error:
            return Answer(system, question, str(error))
        return Answer(system, question)

    return await asyncio.gather(*(asked(*one) for one in questions))


def _route_of(settings: GatewaySettings, image: Path, source: str) -> str:
    taken = routed(configured_routes(settings), [_instance(settings, image, source)])
    if taken is None:
        return f"a study of this image from {source} takes no route: it is ignored"
    route = taken.route
    destinations = ", ".join(route.destinations) or "nobody"
    return (
        f"a study of this image from {source} takes the route {route.name}: "
        f"the service {route.service} is asked, results go to {destinations}"
    )


def _instance(settings: GatewaySettings, image: Path, source: str) -> ReceivedInstance:
    """What the listener would make of the file."""
    try:
        content, meta = image.read_bytes(), read_file_meta_info(image)
        start = content[_META_STARTS + meta.FileMetaInformationGroupLength :]
        syntax = str(meta.TransferSyntaxUID)
    except (OSError, InvalidDicomError, AttributeError) as error:
        raise InputError("--image", str(image), f"must be a DICOM file ({type(error).__name__})") from None
    header = read_instance_header(start, syntax, TimeZone(settings.time_zone), whole=True)
    uids = header.uids
    return ReceivedInstance(
        uids.sop_instance,
        uids.sop_class,
        uids.series,
        uids.study,
        header.patient,
        header.accession,
        digest="",
        file=None,
        received=system_clock(),
        source=source,
        description=header.description,
    )
