"""The service's double at an address, for gateways in a process of their own."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx

from tests.hospital.studies.service_double import ServiceDouble
from tests.hospital.studies.test_dicom_results import ANSWER


class ServedService(ServiceDouble):
    """Answers with findings of which no image shows the evidence: it has seen none."""

    @property
    def answer(self) -> dict[str, Any]:
        given = ANSWER.model_dump(mode="json")
        given["model"]["manifest_digest"] = self.digest
        return given


@contextmanager
def served(service: ServedService) -> Iterator[str]:
    """Its URL, for as long as the block runs."""
    client, lock = service.transport, threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._answer()

        def do_POST(self) -> None:
            self._answer()

        def do_DELETE(self) -> None:
            self._answer()

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            request = httpx.Request(
                self.command, f"http://service{self.path}", headers=dict(self.headers), content=body
            )
            with lock:
                answer = client.handle_request(request)
            self.send_response(answer.status_code)
            self.send_header("Content-Type", answer.headers.get("content-type", "application/json"))
            self.send_header("Content-Length", str(len(answer.content)))
            self.end_headers()
            self.wfile.write(answer.content)

        def log_message(self, *_: object) -> None:
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()
