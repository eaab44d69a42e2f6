"""Systems around a gateway that keep what they are sent, and a laboratory's sender."""

from __future__ import annotations

import socket
import socketserver
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.patience import PATIENCE_S

BEGIN, END = b"\x0b", b"\x1c\r"


def send_hl7(port: int, *segments: str) -> str:
    """Send one message over MLLP; the acknowledgement, its segments on lines."""
    message = "\r".join(segments).encode() + b"\r"
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as connection:
        connection.sendall(BEGIN + message + END)
        answer = b""
        while not answer.endswith(END) and (data := connection.recv(65536)):
            answer += data
    return answer.strip(BEGIN + END).decode().replace("\r", "\n")


@dataclass
class InformationSystem:
    """Takes HL7 messages over MLLP and says that it has stored them.

    Attributes
    ----------
    messages : list of str
        Each once for every time that it came, its segments on lines.
    """

    port: int = 0
    messages: list[str] = field(default_factory=list)


@contextmanager
def information_system() -> Iterator[InformationSystem]:
    system = InformationSystem()

    class Connection(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            pending = b""
            while data := self.request.recv(65536):
                pending += data
                while END in pending:
                    frame, pending = pending.split(END, 1)
                    text = frame.strip(BEGIN).decode()
                    system.messages.append(text.replace("\r", "\n"))
                    control = text.split("\r")[0].split("|")[9]
                    answer = (
                        f"MSH|^~\\&|RIS|R|GW|G|20260101000000||ACK|{len(system.messages)}|P|2.5.1\rMSA|CA|{control}\r"
                    )
                    self.request.sendall(BEGIN + answer.encode() + END)

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        allow_reuse_address = True

    with Server(("127.0.0.1", 0), Connection) as server:
        system.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield system
        finally:
            server.shutdown()
            thread.join()


@dataclass
class AuditRepository:
    """Takes syslog over TLS (RFC 5425) from whoever shows a certificate of its authority.

    Attributes
    ----------
    messages : list of bytes
        Each once for every time that it came.
    """

    port: int = 0
    messages: list[bytes] = field(default_factory=list)


@contextmanager
def audit_repository(tls: ssl.SSLContext) -> Iterator[AuditRepository]:
    repository = AuditRepository()

    class Connection(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            while digits := self._digits():
                repository.messages.append(self.rfile.read(int(digits)))

        def _digits(self) -> bytes:
            found = b""
            while (read := self.rfile.read(1)) not in (b"", b" "):
                found += read
            return found

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        allow_reuse_address = True

        def get_request(self) -> tuple[socket.socket, Any]:
            plain, address = super().get_request()
            return tls.wrap_socket(plain, server_side=True), address

    with Server(("127.0.0.1", 0), Connection) as server:
        repository.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield repository
        finally:
            server.shutdown()
            thread.join()
