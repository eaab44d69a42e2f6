"""Sockets and threads of the associations that are opened to the gateway, each within limits of time and size.

What pynetdicom leaves open is closed here: a handshake of TLS holds up nobody else; a connection from an unknown
address gets no thread; a PDU is read within a time and to a length; what an association received and did not store is
deleted when it ends, however it ends.
"""

from __future__ import annotations

import select
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.dul import DULServiceProvider
from pynetdicom.service_class import StorageServiceClass
from pynetdicom.transport import AssociationSocket, RequestHandler, ThreadedAssociationServer

from hospital.dicom.incoming_messages import IDLE_WAIT_S, BoundedMessages
from hospital.dicom.reception import Receiver
from hospital.store.holds import Hold, Holds

_READ_BYTES = 1 << 18
_LONGEST_PDU = 1 << 20
"""Bytes of any PDU, A-ASSOCIATE-RQ among them; of P-DATA-TF fewer are agreed upon."""
_IDLE_AFTER_S = 0.5
_SPARE = 8
"""Connections beyond the most associations, which are answered by a rejection."""


@dataclass(frozen=True, slots=True)
class AssociationLimits:
    """How many associations may be open, and how long one may take.

    Attributes
    ----------
    associations : int
    idle_s : float
        Between two messages.
    read_s : float
        From the first byte of a PDU to its last; also for an answer to be taken, and for a handshake of TLS.
    pdu_bytes : int
        Maximum length of a P-DATA-TF PDU that is received.
    """

    associations: int = 20
    idle_s: float = 60
    read_s: float = 20
    pdu_bytes: int = 1 << 17


class BoundedSocket(AssociationSocket):
    """A connection of which a PDU is read to a length and within a time."""

    def __init__(self, assoc: Association, client_socket: socket.socket, read_s: float) -> None:
        super().__init__(assoc, client_socket=client_socket)
        self._read_s = read_s
        self._last_read = time.monotonic()
        client_socket.settimeout(read_s)

    @property
    def idle(self) -> bool:
        """Whether nothing has come for a while: pynetdicom looks for more a thousand times a second, on two threads."""
        return time.monotonic() - self._last_read > _IDLE_AFTER_S

    @property
    def ready(self) -> bool:
        """Whether there is something to read; while idle, it is waited for a little."""
        if self.idle and self.socket is not None:
            with suppress(OSError, ValueError):
                select.select([self.socket], [], [], IDLE_WAIT_S)
        return super().ready

    def recv(self, nr_bytes: int) -> bytearray:
        """Read `nr_bytes`, fewer where the connection ends; `OSError` where they are too many or take too long."""
        self._last_read = time.monotonic()
        if nr_bytes > _LONGEST_PDU:
            raise OSError("a PDU is too long")
        received, done = bytearray(nr_bytes), 0
        deadline = time.monotonic() + self._read_s
        with memoryview(received) as view:
            while done < nr_bytes and self.socket is not None:
                self.socket.settimeout(max(deadline - time.monotonic(), 0.001))
                count = self.socket.recv_into(view[done : done + _READ_BYTES])
                if not count:
                    break
                done += count
        if self.socket is not None:
            self.socket.settimeout(self._read_s)
        return received[:done] if done < nr_bytes else received


class _Provider(DULServiceProvider):
    """The thread that reads a connection; what it cannot bear ends the association, and is not printed."""

    def __init__(self, assoc: Association, refused: Callable[[str], None]) -> None:
        super().__init__(assoc)
        self._refused = refused

    def run_reactor(self) -> None:
        try:
            super().run_reactor()
        except Exception as error:  # noqa: BLE001 - a PDU out of turn or with an impossible value
            self._refused(type(error).__name__)


class AcceptedAssociation(Association):
    """An association that a peer opens.

    Attributes
    ----------
    hold : Hold
        Of the studies that it added to.
    fingerprint : str, optional
        SHA-256 of the certificate that the peer showed.
    """

    hold: Hold
    dimse: BoundedMessages

    def __init__(self, ae: AE, server: AssociationServer, connection: socket.socket) -> None:
        super().__init__(ae, "acceptor")
        self._server = server
        self.fingerprint = _fingerprint(connection)
        self.dul = _Provider(self, server.refused)
        # Setting these sets the timers of the provider.
        self.acse_timeout, self.network_timeout = ae.acse_timeout, ae.network_timeout
        bounded = BoundedSocket(self, connection, server.limits.read_s)
        self.set_socket(bounded)
        self.dimse = BoundedMessages(self, server.receiver.start, server.refused, lambda: bounded.idle)

    def run_reactor(self) -> None:
        """Serve the association to its end."""
        server: Any = self._server
        with server.holds.association() as self.hold:
            try:
                super().run_reactor()
            finally:
                self.dimse.discard()

    def _serve_request(self, msg: Any, context_id: int) -> None:
        # pynetdicom looks for the service by the SOP class, and knows of no private ones.
        context = self._accepted_cx.get(context_id)
        if isinstance(msg, C_STORE) and msg.is_valid_request and context is not None:
            StorageServiceClass(self).SCP(msg, context)
        else:
            super()._serve_request(msg, context_id)


class _Handler(RequestHandler):
    server: AssociationServer

    def _create_association(self) -> AcceptedAssociation:
        """As its base does it, without copying every supported context: these follow from what is asked for."""
        made = AcceptedAssociation(self.ae, self.server, self.request)
        made.name = f"AcceptorThread@{made.name}"  # by which pynetdicom finds the associations of a server
        made.acceptor.maximum_length = self.ae.maximum_pdu_size
        made.acceptor.ae_title = self.server.ae_title
        made.acceptor.address_info = self.local
        made.acceptor.implementation_class_uid = self.ae.implementation_class_uid
        made.acceptor.implementation_version_name = self.ae.implementation_version_name
        made.requestor.address_info = self.remote
        for event, handlers in self.server._handlers.items():
            for handler, arguments in handlers if isinstance(handlers, list) else [handlers]:
                if handler is not None:
                    made.bind(event, handler, arguments)
        return made


class AssociationServer(ThreadedAssociationServer):
    """Accepts connections.

    Parameters
    ----------
    tls : ssl.SSLContext or None
        Of the server's side; it decides whether clients must show a certificate.
    known : callable
        Whether any peer calls from an address.
    refused : callable
        Is called with the reason, and the address where it is known, when a connection is closed or aborted for what
        the other side did.
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(
        self,
        ae: AE,
        address: tuple[str, int],
        handlers: list[Any],
        *,
        tls: ssl.SSLContext | None,
        limits: AssociationLimits,
        receiver: Receiver,
        holds: Holds,
        known: Callable[[str], bool],
        refused: Callable[..., None],
    ) -> None:
        self.tls, self.limits, self.receiver, self.holds = tls, limits, receiver, holds
        self.known, self.refused = known, refused
        self._shaking = threading.BoundedSemaphore(limits.associations + _SPARE)
        super().__init__(ae, address, ae.ae_title, [], evt_handlers=handlers, request_handler=_Handler)
        ae._servers.append(self)

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Whether a connection gets a thread."""
        if not self.known(client_address[0]):
            self.refused("address", client_address[0])
            return False
        if len(self.active_associations) >= self.limits.associations + _SPARE:
            self.refused("connections")
            return False
        return True

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Shake hands, and begin the association."""
        if self.tls is None:
            super().process_request_thread(request, client_address)
            return
        if not self._shaking.acquire(blocking=False):
            self.refused("handshakes")
            self.shutdown_request(request)
            return
        secured = request
        try:
            secured = self.tls.wrap_socket(request, server_side=True, do_handshake_on_connect=False)
            with _closed_after(secured, self.limits.read_s):
                secured.do_handshake()
        except OSError:
            self.refused("TLS", client_address[0])
            self.shutdown_request(secured)
            return
        finally:
            self._shaking.release()
        super().process_request_thread(secured, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Count what the base would print, with whatever the other side had sent."""
        self.refused("connection")


@contextmanager
def _closed_after(connection: ssl.SSLSocket, seconds: float) -> Iterator[None]:
    """End the connection below the handshake, however slowly its bytes come, unless it is done in time."""
    timer = threading.Timer(seconds, socket.socket.shutdown, (connection, socket.SHUT_RDWR))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _fingerprint(connection: socket.socket) -> str | None:
    shown = connection.getpeercert(binary_form=True) if isinstance(connection, ssl.SSLSocket) else None
    return sha256(shown).hexdigest() if shown else None
