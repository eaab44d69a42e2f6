"""PDUs byte by byte, for what no library would send. Source: PS3.8 9.3."""

from __future__ import annotations

import socket
import struct
from collections.abc import Sequence

from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from tests.hospital.dicom.listening import OURS, PEER
from tests.patience import PATIENCE_S

DX = "1.2.840.10008.5.1.4.1.1.1.1"
VERIFICATION = "1.2.840.10008.1.1"
C_STORE_RQ, C_ECHO_RQ, N_EVENT_REPORT_RQ = 0x0001, 0x0030, 0x0100
CONTEXTS = ((DX, ExplicitVRLittleEndian), (VERIFICATION, ImplicitVRLittleEndian))


def pdu(kind: int, content: bytes) -> bytes:
    return struct.pack(">BBL", kind, 0, len(content)) + content


def item(kind: int, content: bytes) -> bytes:
    return struct.pack(">BBH", kind, 0, len(content)) + content


def associate(contexts: Sequence[tuple[str, str]] = CONTEXTS) -> bytes:
    """A-ASSOCIATE-RQ; contexts get the numbers 1, 3, 5, ..."""
    proposed = b"".join(
        item(0x20, bytes([2 * i + 1, 0, 0, 0]) + item(0x30, sop.encode()) + item(0x40, syntax.encode()))
        for i, (sop, syntax) in enumerate(contexts)
    )
    user = item(0x50, item(0x51, struct.pack(">L", 16384)) + item(0x52, b"1.2.3"))
    titles = OURS.ljust(16).encode() + PEER.ae_title.ljust(16).encode()
    head = struct.pack(">HH", 1, 0) + titles + bytes(32)
    return pdu(1, head + item(0x10, b"1.2.840.10008.3.1.1.1") + proposed + user)


def data(content: bytes, *, command: bool, last: bool, context: int = 1) -> bytes:
    """P-DATA-TF with one presentation data value."""
    header = (1 if command else 0) | (2 if last else 0)
    return pdu(4, struct.pack(">LBB", len(content) + 2, context, header) + content)


def command(
    kind: int, *, sop_class: str = DX, instance: str = "1.2.3", with_data: bool = True, message: int = 1
) -> bytes:
    """A command set, in implicit VR little endian."""

    def element(number: int, value: bytes) -> bytes:
        value += b"\0" * (len(value) % 2)
        return struct.pack("<HHL", 0, number, len(value)) + value

    body = element(0x0002, sop_class.encode()) + element(0x0100, struct.pack("<H", kind))
    body += element(0x0110, struct.pack("<H", 1)) + element(0x0700, struct.pack("<H", 0))
    body += element(0x0800, struct.pack("<H", 0x0000 if with_data else 0x0101))
    if kind != C_ECHO_RQ:
        body += element(0x1000, instance.encode())
    if kind == N_EVENT_REPORT_RQ:
        body += element(0x1002, struct.pack("<H", 1))
    return element(0x0000, struct.pack("<L", len(body))) + body


def connect(port: int, *, associated: bool = True, contexts: Sequence[tuple[str, str]] = CONTEXTS) -> socket.socket:
    """A connection, with an association where it is to be `associated`."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)
    if associated:
        connection.sendall(
            associate(contexts or ((DX, ExplicitVRLittleEndian), (VERIFICATION, ImplicitVRLittleEndian)))
        )
        assert answer(connection)[0] == 2, "A-ASSOCIATE-AC"
    return connection


def answer(connection: socket.socket) -> tuple[int, bytes]:
    """Kind and content of the next PDU; (0, b"") where the connection ended."""
    head = _exactly(connection, 6)
    if len(head) < 6:
        return 0, b""
    kind, _, length = struct.unpack(">BBL", head)
    return kind, _exactly(connection, length)


def ended(connection: socket.socket) -> bool:
    """Whether the other side aborts or closes, before the time-out of the connection."""
    kind, _ = answer(connection)
    return kind in (0, 7)


def _exactly(connection: socket.socket, count: int) -> bytes:
    received = b""
    while len(received) < count:
        try:
            more = connection.recv(count - len(received))
        except ConnectionResetError:
            break
        if not more:
            break
        received += more
    return received
