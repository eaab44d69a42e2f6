from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from starlette.routing import Route

from hospital.fhir.cds.cds_hooks import CardFeedback
from hospital.running.commands.assembled_gateway import assembled_gateway
from hospital.running.gateway import store_location
from hospital.running.routes.cds_parts import FeedbackCounts, PatientResults, cds_routes, patient_systems
from hospital.store.gateway_store import Store
from hospital.store.received import PatientId
from hospital.store.state import StudyStage, StudyState
from tests.hospital.clock import START, SetClock
from tests.hospital.running.settings_sample import settings
from tests.hospital.studies.test_dicom_results import answered
from tests.patience import PATIENCE_S

MORE = """
identifiers: {ward: {known_as: [WARD, 1.2.840.1]}, city: {known_as: ["http://city.example/mrn"]}}
fhir: {ehr: {url: "http://127.0.0.1:9/fhir", patient_system: "urn:oid:1.9", patient_issuer: ward}}
cds_hooks: {url: "https://gateway.example", issuers: {"https://ehr.example": {key_set_url: "https://ehr.example/jwks"}}}
"""
PATIENT = PatientId("MRN-1", "ward")


@pytest.fixture
def store(tmp_path: Path):
    store = Store(store_location(settings(tmp_path, MORE)), SetClock())
    store.take()
    yield store
    store.close()


def keep(store: Store, stage: StudyStage = StudyStage.ANSWERED, patient: PatientId = PATIENT) -> None:
    first = answered().revision
    state = StudyState(first.study, patient, None, stage, START, START)
    saved = store.studies.answer(state, first, [])
    second = replace(first, revision="ef" * 32, number=2)
    store.studies.answer(saved, second, [])


def look_up(store: Store, folder: Path, *identifiers: tuple[str, str]):
    return PatientResults(store, patient_systems(settings(folder, MORE)))(identifiers)


def test_systems_are_those_that_the_configuration_knows(tmp_path):
    assert patient_systems(settings(tmp_path, MORE)) == {
        "urn:oid:1.2.840.1": "ward",
        "http://city.example/mrn": "city",
        "urn:oid:1.9": "ward",
    }


def test_latest_answer_to_a_study_of_the_patient_is_found(store, tmp_path):
    keep(store)
    (found,) = look_up(store, tmp_path, ("urn:oid:1.9", "MRN-1"))
    assert found.reported.revision == "ef" * 32


@pytest.mark.parametrize(
    "identifier", [("urn:oid:7", "MRN-1"), ("http://city.example/mrn", "MRN-1"), ("urn:oid:1.9", "M")]
)
def test_same_number_of_another_issuer_finds_nothing(store, tmp_path, identifier):
    keep(store)
    assert look_up(store, tmp_path, identifier) == []


def test_study_that_a_person_set_aside_is_not_shown(store, tmp_path):
    keep(store, StudyStage.IGNORED)
    assert look_up(store, tmp_path, ("urn:oid:1.9", "MRN-1")) == []


def test_routes_are_there_where_the_configuration_has_them(store, tmp_path):
    routes = cds_routes(settings(tmp_path, MORE), store, SetClock())
    assert [route.path for route in routes if isinstance(route, Route)] == [
        "/cds-services",
        "/cds-services/{service}",
        "/cds-services/{service}/feedback",
    ]
    assert cds_routes(settings(tmp_path), store, SetClock()) == []


def test_feedback_is_counted_by_outcome():
    counts = FeedbackCounts()
    counts([CardFeedback("c", "accepted", None), CardFeedback("c", "overridden", "seen")])
    assert counts.outcomes == {"accepted": 1, "overridden": 1}


def test_running_gateway_lists_its_services_and_takes_no_call_without_a_token(tmp_path):
    async def ask() -> tuple[httpx.Response, httpx.Response]:
        stop, started = asyncio.Event(), asyncio.Event()
        gateway = assembled_gateway(settings(tmp_path, MORE))
        running = asyncio.create_task(gateway.run(stop, started.set))
        await asyncio.wait_for(started.wait(), PATIENCE_S)
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{gateway.http.port}", timeout=PATIENCE_S) as client:
            answers = (
                await client.get("/cds-services"),
                await client.post("/cds-services/consilium-patient-view", json={}),
            )
        stop.set()
        await running
        return answers

    discovery, refused = asyncio.run(ask())
    assert [one["hook"] for one in discovery.json()["services"]] == ["patient-view", "order-select", "order-sign"]
    assert refused.status_code == 401
