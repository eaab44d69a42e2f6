"""Associations that the gateway opens, and why one was not had."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, build_context, evt
from pynetdicom.association import Association
from pynetdicom.presentation import PresentationContext

from consilium.domain.errors import ConsiliumError
from hospital.dicom.peers import DicomPeer
from hospital.dicom.quiet_library import quiet_library
from hospital.dicom.reception import IMPLEMENTATION_CLASS

VERIFICATION = "1.2.840.10008.1.1"
SUCCESS = 0x0000
_PROBE_S = 2.0


class PeerFailure(ConsiliumError):
    """A peer did not do what it was asked for. The message names neither patient nor identifier."""


class PeerUnreachable(PeerFailure):
    """There is no connection or no association with it now."""


class PeerBusy(PeerFailure):
    """It may do the same later."""


class PeerRefuses(PeerFailure):
    """It will never do this as it is asked for: a person must look."""


@dataclass(frozen=True, slots=True)
class Requestor:
    """The gateway as the side that asks.

    Attributes
    ----------
    tls : ssl.SSLContext, optional
        For the peers that want it.
    connect_s, answer_s : float
        How long a connection with its association may take, and each answer.
    """

    ae_title: str
    tls: ssl.SSLContext | None = field(default=None, repr=False)
    connect_s: float = 10
    answer_s: float = 60

    @contextmanager
    def association(
        self,
        peer: DicomPeer,
        contexts: Sequence[PresentationContext],
        *,
        handlers: Sequence[Any] = (),
        roles: Sequence[Any] = (),
    ) -> Iterator[Association]:
        """An association for as long as the block runs.

        Raises
        ------
        PeerUnreachable
            Where there is none: also of a title that is rejected for good, as its configuration will be changed.
        PeerRefuses
            Where the configuration says too little of the peer.
        """
        if peer.host is None or peer.port is None:
            raise PeerRefuses(f"{peer.name}: no address to connect to")
        if peer.tls and self.tls is None:
            raise PeerRefuses(f"{peer.name}: no certificate to connect with")
        quiet_library()
        ae = AE(self.ae_title)
        ae.implementation_class_uid = IMPLEMENTATION_CLASS
        ae.connection_timeout = ae.acse_timeout = self.connect_s
        ae.dimse_timeout = ae.network_timeout = self.answer_s
        tls = (self.tls, peer.host) if peer.tls else None
        opened: list[Any] = []
        watched = [*handlers, (evt.EVT_CONN_OPEN, opened.append)]
        options: dict[str, Any] = {"evt_handlers": watched, "ext_neg": list(roles), "tls_args": tls}
        began = time.monotonic()
        association = ae.associate(peer.host, peer.port, list(contexts), peer.ae_title, **options)
        if not association.is_established:
            late = time.monotonic() - began >= self.connect_s
            why = _after_connecting(association) if opened else _no_connection(peer.host, peer.port, late=late)
            raise PeerUnreachable(f"{peer.name}: there was no association with {_address(peer)}: {why}")
        try:
            yield association
        finally:
            association.release()

    def echo(self, peer: DicomPeer) -> None:
        """Ask whether a peer answers (C-ECHO).

        Raises
        ------
        PeerFailure
        """
        with self.association(peer, [context(VERIFICATION)]) as association:
            status = association.send_c_echo().get("Status")
        if status != SUCCESS:
            raise PeerBusy(f"{peer.name}: C-ECHO was answered {shown(status)}")


def context(sop_class: str) -> PresentationContext:
    """A presentation context in the encodings that every system knows."""
    return build_context(sop_class, [ExplicitVRLittleEndian, ImplicitVRLittleEndian])


def shown(status: int | None) -> str:
    """A status as people look it up."""
    return "not at all" if status is None else f"0x{status:04X}"


def _address(peer: DicomPeer) -> str:
    host = f"[{peer.host}]" if peer.host is not None and ":" in peer.host else peer.host
    return f"{host}:{peer.port} ({peer.ae_title})"


def _after_connecting(association: Association) -> str:
    answer: Any = association.acceptor.primitive
    if association.is_rejected and answer is not None:
        numbers = f"{answer.result},{answer.result_source},{answer.diagnostic}"
        return f"rejected by its {answer.source_str}: {answer.reason_str} ({numbers})"
    if answer is not None:
        return "it takes nothing of what was asked for"
    return "connected, but the request was not answered, or aborted"


def _no_connection(host: str, port: int, *, late: bool) -> str:
    """Why there is no connection; pynetdicom does not tell, so that one more is tried where it did not take long."""
    if late:
        return "timed out"
    try:
        socket.create_connection((host, port), _PROBE_S).close()
    except OSError as error:
        return (error.strerror or "timed out").lower()
    return "the connection was closed, or TLS was not agreed upon"
