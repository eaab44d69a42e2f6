"""The results that a SMART launch shows: of this patient, of the study that is meant, of this gateway's store."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from hospital.fhir.smart.smart_launch import StudyWanted
from hospital.running.gateway import store_location
from hospital.running.routes.cds_parts import PatientResults, cds_routes, patient_systems
from hospital.running.routes.smart_parts import LaunchedResults, smart_routes
from hospital.store.gateway_store import Store
from hospital.store.received import Accession, PatientId
from hospital.store.state import StudyStage, StudyState
from tests.hospital.clock import START, SetClock
from tests.hospital.running.settings_sample import settings
from tests.hospital.studies.test_dicom_results import answered

MORE = """
identifiers: {ward: {known_as: [WARD, 1.2.840.1]}}
fhir: {ehr: {url: "http://127.0.0.1:9/fhir", patient_system: "urn:oid:1.9", patient_issuer: ward}}
smart_launch:
  url: https://gateway.example
  issuers: {"https://ehr.example/fhir": {client_id: consilium}}
"""
MRN = [("urn:oid:1.9", "MRN-1")]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(store_location(settings(tmp_path, MORE)), SetClock())
    store.take()
    for number, patient in ((1, "MRN-1"), (2, "MRN-1"), (3, "MRN-2")):
        revision = replace(answered().revision, study=f"1.2.{number}", revision=f"{number}" * 64)
        accession = Accession(f"A{number}", "ris")
        state = StudyState(f"1.2.{number}", PatientId(patient, "ward"), accession, StudyStage.ANSWERED, START, START)
        store.studies.answer(state, revision, [])
    yield store
    store.close()


@pytest.mark.parametrize(
    ("identifiers", "wanted", "shown"),
    [
        (MRN, StudyWanted(), ["2", "1"]),
        (MRN, StudyWanted(studies=frozenset({"1.2.1"})), ["1"]),
        (MRN, StudyWanted(accessions=frozenset({"A2"})), ["2"]),
        (MRN, StudyWanted(studies=frozenset({"1.2.3"})), []),
        (MRN, StudyWanted(accessions=frozenset({"A3"})), []),
        ([("urn:oid:7", "MRN-1")], StudyWanted(), []),
        ([], StudyWanted(studies=frozenset({"1.2.1"})), []),
    ],
)
def test_results_are_of_the_patient_and_of_the_study_that_is_meant(
    store: Store, tmp_path: Path, identifiers: list[tuple[str, str]], wanted: StudyWanted, shown: list[str]
) -> None:
    results = LaunchedResults(PatientResults(store, patient_systems(settings(tmp_path, MORE))))

    assert sorted(one.reported.revision[0] for one in results(identifiers, wanted)) == sorted(shown)


def test_cards_lead_to_the_launch_where_there_is_one(store: Store, tmp_path: Path) -> None:
    systems = patient_systems(settings(tmp_path, MORE))
    (first, _) = PatientResults(store, systems, "https://gateway.example/smart/launch")(MRN)
    assert first.launch == "https://gateway.example/smart/launch"
    assert PatientResults(store, systems)(MRN)[0].launch is None


def test_routes_are_there_where_the_configuration_has_them(store: Store, tmp_path: Path) -> None:
    routes = smart_routes(settings(tmp_path, MORE), store, SetClock())
    assert [route.path for route in routes] == ["/smart/launch", "/smart/callback"]
    assert smart_routes(settings(tmp_path), store, SetClock()) == []
    assert cds_routes(settings(tmp_path, MORE), store, SetClock()) == []
