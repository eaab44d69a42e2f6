"""FHIR servers as gateway.yaml describes them, polled over real connections."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from consilium.domain.errors import InputError
from hospital.running.gateway import store_location
from hospital.running.gateway_metrics import CountedEvents
from hospital.running.reading_parts import reading_parts
from hospital.store.gateway_store import Store
from hospital.store.received import PatientId
from hospital.store.state import StudyStage, StudyState
from tests.hospital.fhir.stub_server import StubServer, observation, patient
from tests.hospital.running.settings_sample import settings
from tests.patience import PATIENCE_S

pytestmark = pytest.mark.anyio

P1 = PatientId("4711", "house")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@contextmanager
def serving(stub: StubServer) -> Iterator[str]:
    """The stub on a real port: its base address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            url = f"http://{self.headers['Host']}{self.path}"
            answer = stub.answer(httpx.Request("GET", url, headers=dict(self.headers)))
            self.send_response(answer.status_code)
            self.send_header("Content-Length", str(len(answer.content)))
            self.end_headers()
            self.wfile.write(answer.content)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/r4"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def described(url: str, more: str = "") -> str:
    server = f'{{url: "{url}", token: {{env: FHIR_TOKEN}}, patient_system: "urn:mrn", patient_issuer: house{more}}}'
    return f"identifiers: {{house: {{known_as: [HOUSE]}}}}\nfhir: {{ehr: {server}}}\n"


async def test_a_server_is_read_for_the_patients_of_open_studies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FHIR_TOKEN", "let-me-in")
    stub = StubServer(patient(), observation("1"), observation("2"), observation("3"))
    with serving(stub) as url:
        given = settings(tmp_path, described(url))
        store = Store(store_location(given))
        store.take()
        now = store.clock()
        store.studies.save(StudyState("1.1", P1, None, StudyStage.ASSEMBLING, now, now))
        (part,) = reading_parts(given, store)
        events = CountedEvents()
        part.count(events)
        await part.start()
        async with asyncio.timeout(PATIENCE_S):
            while not part.polling.counts:
                await asyncio.sleep(0.02)
        await part.stop()
        assert part.polling.counts == {"read": 1}
        assert part.listening == "fhir ehr, read every 60 s"
        assert sorted(one.key for one in store.records.observations([P1])) == [f"Observation/{n}" for n in (1, 2, 3)]
        assert {request.headers["authorization"] for request in stub.requests} == {"Bearer let-me-in"}
        (family,) = events.collect()
        assert [(one.labels, one.value) for one in family.samples] == [({"server": "ehr", "outcome": "read"}, 1.0)]
        store.close()


@pytest.mark.parametrize("more", [", read: false", ""])
async def test_a_server_that_is_only_written_to_is_not_polled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: str
) -> None:
    monkeypatch.setenv("FHIR_TOKEN", "let-me-in")
    given = settings(tmp_path, described("http://127.0.0.1:9", more))
    assert len(reading_parts(given, Store(store_location(given)))) == (0 if more else 1)


async def test_a_key_that_is_none_is_an_error_at_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FHIR_KEY", "no key")
    service = ", backend_service: {client_id: c, key: {env: FHIR_KEY}, key_id: '1'}"
    given = settings(tmp_path, described("http://127.0.0.1:9", service).replace("token: {env: FHIR_TOKEN}, ", ""))
    with pytest.raises(InputError, match="must be a private key in PEM"):
        reading_parts(given, Store(store_location(given)))
