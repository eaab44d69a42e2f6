from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from consilium.databases.database import read_url
from consilium.domain.errors import InputError
from consilium.formats.time_zone import TimeZone
from hospital.fhir.fhir_client import FhirClient, FhirFault
from hospital.fhir.reading.polling import Polling
from hospital.fhir.reading.record_reader import Ambiguous, FhirSource, RecordReader
from hospital.store.gateway_store import Store, StoreLocation
from hospital.store.received import PatientId
from hospital.store.state import StudyStage, StudyState
from hospital.terminology.site_tables import CodeTable, Terminology
from tests.hospital.clock import SetClock
from tests.hospital.fhir.stub_server import BASE, StubServer, observation, patient
from tests.hospital.fhir.test_fhir_client import Waits
from tests.hospital.fhir.test_fhir_records import attached, document

pytestmark = pytest.mark.anyio

P1 = PatientId("4711", "hospital")
TERMS = Terminology(documents=CodeTable([("http://loinc.org", "34117-2", "history")]))
SOURCE = FhirSource("ehr", "urn:mrn", "hospital", TERMS, TimeZone("UTC"), categories=("laboratory",))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    url = read_url(f"sqlite:///{tmp_path / 'gateway.db'}", "url")
    opened = Store(StoreLocation(url, tmp_path, tmp_path / "store.key", free_bytes=1), SetClock())
    opened.take()
    yield opened
    opened.close()


def polling(store: Store, server: StubServer) -> Polling:
    client = FhirClient(BASE, server.http, sleep=Waits())
    former = lambda one: store.records.observations([one])  # noqa: E731
    return Polling(store, RecordReader(SOURCE, client, store.inbox, former, store.clock))


def values(store: Store) -> list[tuple[str, float | None]]:
    return sorted((one.key, one.value) for one in store.records.observations([P1]))


def opened_study(store: Store, study: str, holder: PatientId | None, **fields: Any) -> None:
    now = store.clock()
    store.studies.save(StudyState(study, holder, None, StudyStage.ASSEMBLING, now, now, **fields))


async def test_what_a_server_holds_of_a_patient_is_stored(store: Store) -> None:
    server = StubServer(
        patient(),
        patient("p2", "4712"),
        observation("1"),
        observation("2"),
        observation("3"),
        observation("4", subject={"reference": "Patient/p2"}),
        document(attached(b"Fever")),
    )
    await polling(store, server).read(P1)
    assert values(store) == [("Observation/1", 112.0), ("Observation/2", 112.0), ("Observation/3", 112.0)]
    assert [one.text for one in store.records.notes([P1])] == ["Fever"]
    assert [one.sex.value for one in store.records.updates([P1])] == ["F"]
    assert all("category" in request.url.params for request in server.requests if "Observation" in request.url.path)


async def test_the_next_reading_asks_for_what_changed_with_an_overlap(store: Store) -> None:
    server, reader = StubServer(patient(), observation("1")), None
    reader = polling(store, server)
    began = store.clock()
    await reader.read(P1)
    store.clock.move(hours=1)  # type: ignore[attr-defined]
    server.requests.clear()
    corrected = {"versionId": "2", "lastUpdated": (began + timedelta(minutes=30)).isoformat()}
    server.resources[1] = observation(
        "1", status="corrected", meta=corrected, valueQuantity={"value": 9, "unit": "mg/L"}
    )
    await reader.read(P1)
    (asked,) = (request.url.params for request in server.requests if request.url.path.endswith("Observation"))
    assert asked["_lastUpdated"] == f"ge{(began - timedelta(minutes=10)).isoformat()}"
    assert "date" not in asked
    assert values(store) == [("Observation/1", 9.0)]


async def test_what_comes_twice_is_stored_once_and_wakes_nobody(store: Store) -> None:
    server = StubServer(patient(), observation("1"))
    reader = polling(store, server)
    await reader.read(P1)
    store.arrived.clear()
    await reader.read(P1)
    assert not store.arrived.is_set()


async def test_a_server_that_ignores_the_patient_gives_nothing_of_others(store: Store) -> None:
    server = StubServer(patient(), observation("1"))
    server.resources.append(observation("2", subject={"reference": "Patient/p2"}))
    real = server._search
    server._search = lambda kind, url: real(kind, url.copy_remove_param("patient") if kind != "Patient" else url)  # type: ignore[method-assign]
    await polling(store, server).read(P1)
    assert values(store) == [("Observation/1", 112.0)]


async def test_an_identifier_of_several_patients_reads_none(store: Store) -> None:
    with pytest.raises(Ambiguous):
        await polling(store, StubServer(patient(), patient("p2"), observation("1"))).read(P1)
    assert values(store) == []


async def test_a_patient_of_another_issuer_is_never_asked_for(store: Store) -> None:
    server = StubServer(patient())
    with pytest.raises(InputError, match="must be of hospital"):
        await polling(store, server).read(PatientId("4711", "other"))
    assert server.requests == []


async def test_a_fault_in_the_middle_leaves_the_position_where_it_was(store: Store) -> None:
    server = StubServer(patient(), observation("1"))
    reader = polling(store, server)
    server.faults = [server.answer(httpx.Request("GET", f"{BASE}/Patient")), httpx.Response(400)]
    with pytest.raises(FhirFault):
        await reader.read(P1)
    await reader.read(P1)
    assert all("_lastUpdated" not in request.url.params for request in server.requests)


async def test_a_document_that_cannot_be_fetched_costs_no_other(store: Store) -> None:
    lost = document({"contentType": "text/plain", "url": "Binary/7"}) | {"id": "d2"}
    foreign = document({"contentType": "text/plain", "url": "https://elsewhere.example/x"}) | {"id": "d3"}
    there = document({"contentType": "text/plain", "url": f"{BASE}/Binary/8"}) | {"id": "d4"}
    server = StubServer(patient(), lost, foreign, there)
    server.binaries["Binary/8"] = b"Cough"
    real = server._search
    server._search = lambda kind, url: httpx.Response(404) if "Binary" in kind else real(kind, url)  # type: ignore[method-assign]
    await polling(store, server).read(P1)
    assert sorted(one.text for one in store.records.notes([P1])) == ["", "", "Cough"]
    assert {request.url.host for request in server.requests} == {"fhir.example"}


async def test_a_round_asks_for_the_patients_of_open_studies(store: Store) -> None:
    server = StubServer(patient(), observation("1"))
    opened_study(store, "1.1", P1)
    opened_study(store, "1.2", P1)
    opened_study(store, "1.3", PatientId("4711", "other"))
    opened_study(store, "1.4", None)
    reader = polling(store, server)
    await reader.round()
    assert (reader.counts, server.asked["Patient"]) == ({"read": 1}, 1)
    store.clock.move(days=2)  # type: ignore[attr-defined]
    await reader.round()
    assert server.asked["Patient"] == 1


async def test_a_round_ends_with_a_server_that_is_down_and_goes_on_after_a_fault_of_one_patient(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    opened_study(store, "1.1", P1)
    opened_study(store, "1.2", PatientId("4712", "hospital"))
    server = StubServer(patient(), patient("p2", "4712"))
    reader = polling(store, server)
    server.faults = [httpx.Response(503)] * 4
    await reader.round()
    assert reader.counts == {"postponed": 1}
    server.faults = [httpx.Response(404)]
    await reader.round()
    assert reader.counts == {"postponed": 1, "failed": 1, "read": 1}
    assert "4711" not in caplog.text
