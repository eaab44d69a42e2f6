from __future__ import annotations

import tracemalloc
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from sqlalchemy import text

from consilium.api.schemas import FeedbackRequest
from consilium.domain.errors import InputError
from consilium.domain.study import Patient, Sex, Study, accession_digest, identifier_digest
from consilium.modalities.image.image_record import Image
from consilium.modalities.observations.records import read_observations
from service.audit_log import monitored, retention
from service.audit_log.database import Database, read_url
from service.audit_log.entries import Entry, Origin
from service.audit_log.monitored import monitored_answers
from service.audit_log.pseudonyms import Kind
from service.audit_log.store import Store
from tests.service.audit_log.samples import NOW, entry
from tests.service.fakes import FakeModel

DAY = 86_400.0
SITE, DEVICE = "St. Roe's Hospital", "Acme\0Ray 3\0ROOM-7"


def pictured(**known: Any) -> Image:
    return Image(np.full((4, 4), 52428, np.uint16), digest="5a" * 32, source="dicom", **known)


def answered(study: Study, **more: Any) -> Entry:
    diagnosis = FakeModel()._diagnosis(study).with_projections({"image": (0.123456789, -2.0)})
    return entry(study=study, diagnosis=diagnosis, **more)


@pytest.fixture
def whole() -> Study:
    values, _ = read_observations(
        [{"code": "1988-5", "value": 12, "unit": "mg/dL{of Jane Roe}"}, {"code": "1988-5", "value": 80, "unit": "mg/L"}]
    )
    image = pictured(
        accession_digest=accession_digest("A-17", "RIS"),
        device_digest=identifier_digest(DEVICE),
        site_digest=identifier_digest(SITE),
    )
    return Study({"image": (image,), "observations": values}, patient=Patient(91, Sex.FEMALE))


def test_what_monitoring_needs_is_kept_and_read_back(store: Store, whole: Study) -> None:
    given = answered(whole, role="canary")
    store.commit([given], DAY)
    (found,) = monitored_answers(store.database, "consilium-fake")
    assert (found.result_id, found.time, found.role) == (given.result_id, NOW, "canary")
    assert (found.model_name, found.model_version, found.manifest_digest) == ("consilium-fake", "7", "ab" * 32)
    assert found.probabilities == {one.finding: one.probability for one in given.diagnosis.findings}
    assert found.prediction_sets == {"pneumonia": ("present",), "pneumothorax": ("present",)}
    assert (found.referred, found.present, found.p_values) == (True, frozenset({"image"}), {"image": 0.125})
    assert found.projections == {"image": (0.12346, -2.0)}
    assert (found.latency_ms, found.outcomes) == (21.75, ())
    newest = store.keys.newest
    assert found.categories == {
        "sex": "female",
        "age_band": "80 and older",
        "unit:crp": "mg/L, mg/dL",
        "device": newest.pseudonym(Kind.DEVICE, str(identifier_digest(DEVICE)))[:16],
        "site": newest.pseudonym(Kind.SITE, str(identifier_digest(SITE)))[:16],
    }


def test_without_an_institution_the_site_is_the_caller(store: Store) -> None:
    study = Study({"image": (pictured(),)})
    given = [answered(study, origin=Origin(caller, "r")) for caller in ("key:a", "key:a", "key:b")]
    store.commit(given, DAY)
    sites = [one.categories["site"] for one in monitored_answers(store.database, "consilium-fake")]
    assert len(set(sites)) == 2
    assert not any("device" in one.categories for one in monitored_answers(store.database, "consilium-fake"))


def test_a_finding_that_is_referred_refers_the_answer(store: Store) -> None:
    diagnosis = FakeModel()._diagnosis(Study({"image": (pictured(),)})).model_copy(update={"refer_reasons": ()})
    store.commit([entry(diagnosis=diagnosis)], DAY)
    (found,) = monitored_answers(store.database, "consilium-fake")
    assert not found.referred


def test_the_accession_number_is_found_by_its_pseudonym(store: Store, whole: Study) -> None:
    given = answered(whole)
    store.commit([given], DAY)
    expected = store.keys.newest.pseudonym(Kind.ACCESSION, str(accession_digest(" A-17 ", "RIS")))
    assert store.result(given.result_id).pseudonyms.accession == expected
    assert expected != store.keys.newest.pseudonym(Kind.ACCESSION, str(accession_digest("A-17")))


def test_answers_come_in_order_of_time_over_pages_and_within_the_times_asked_for(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(monitored, "_ROWS_AT_ONCE", 3)
    hours = (8, 7, 7, 7, 9, 7, 10)
    given = [entry(time=NOW.replace(hour=hour)) for hour in hours]
    store.commit([*given, entry(version="8")], DAY)
    found = list(monitored_answers(store.database, "consilium-fake", version="7"))
    assert [one.time.hour for one in found] == sorted(hours)
    assert {one.result_id for one in found} == {one.result_id for one in given}
    asked = {"since": NOW.replace(hour=8), "until": NOW.replace(hour=10)}
    some = monitored_answers(store.database, "consilium-fake", version="7", **asked)
    assert [one.time.hour for one in some] == [8, 9]
    assert list(monitored_answers(store.database, "consilium-other")) == []


def test_outcomes_are_joined_oldest_first(store: Store) -> None:
    given, other = entry(), entry()
    store.commit([given, other], DAY)
    for state, when, influenced in (
        ("absent", "2026-03-08T09:00:00Z", None),
        ("present", "2026-03-06T09:00:00Z", True),
    ):
        asked = {"findings": {"pneumonia": state}, "time": when, "influenced": influenced}
        store.add_feedback(FeedbackRequest(result_id=given.result_id, **asked), "key:a")
    found = {one.result_id: one.outcomes for one in monitored_answers(store.database, "consilium-fake")}
    assert found[other.result_id] == ()
    assert [(one.state, one.time.day, one.source, one.influenced) for one in found[given.result_id]] == [
        ("present", 6, "feedback", True),
        ("absent", 8, "feedback", None),
    ]


def test_feedback_from_the_future_is_refused(store: Store) -> None:
    given = entry()
    store.commit([given], DAY)
    later = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    with pytest.raises(InputError, match=r"time: .*must not lie in the future"):
        store.add_feedback(
            FeedbackRequest(result_id=given.result_id, findings={"pneumonia": "absent"}, time=later), "a"
        )


def kept(store: Store) -> list[UUID]:
    with store.database.reading() as session:
        return list(session.scalars(text("SELECT result_id FROM monitoring")))


def test_switched_off_nothing_is_kept_beside_the_entry(store: Store) -> None:
    off = Store(store.database, store.keys, monitoring=False)
    given = entry()
    off.commit([given], DAY)
    assert kept(store) == []
    assert list(monitored_answers(store.database, "consilium-fake")) == []
    assert store.result(given.result_id)


def test_what_is_purged_is_purged_here_too(store: Store) -> None:
    store.commit([entry(time=datetime.now(UTC) - timedelta(days=400)), entry(time=datetime.now(UTC))], DAY)
    assert len(kept(store)) == 2
    retention.purge(store.database, timedelta(days=365))
    assert len(kept(store)) == 1


def test_a_backup_has_it(store: Store, tmp_path: Path, whole: Study) -> None:
    if store.database.path is None:
        pytest.skip("pg_dump backs PostgreSQL up")
    store.commit([answered(whole)], DAY)
    retention.backup(store.database, tmp_path / "copy.db")
    copy = Database(read_url(f"sqlite:///{tmp_path / 'copy.db'}"))
    (found,) = monitored_answers(copy, "consilium-fake")
    assert found.projections == {"image": (0.12346, -2.0)}
    copy.close()


def test_an_answer_that_is_not_recorded_is_not_monitored(store: Store) -> None:
    good = entry()
    with pytest.raises(Exception, match=r"(?i)integrity|unique"):
        store.commit([good, entry(result_id=good.result_id)], DAY)
    assert kept(store) == []


def test_nothing_that_names_a_patient_device_or_site_is_in_the_rows(store: Store, whole: Study) -> None:
    store.commit([answered(whole)], DAY)
    with store.database.reading() as session:
        rows = [
            str(tuple(row))
            for name in ("monitoring", "results")
            for row in session.execute(text(f"SELECT * FROM {name}"))
        ]
    plain = [str(one) for one in (identifier_digest(DEVICE), identifier_digest(SITE), accession_digest("A-17", "RIS"))]
    for planted in ("Jane", "Roe", "Hospital", "Acme", "ROOM", "A-17", "RIS", *plain, *(one[:16] for one in plain)):
        assert planted not in "\n".join(rows)


def test_memory_does_not_grow_with_the_number_of_answers(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    if store.database.path is None:
        pytest.skip("one database is enough: the pages are the same")
    monkeypatch.setattr(monitored, "_ROWS_AT_ONCE", 20)

    def peak() -> int:
        tracemalloc.start()
        for _ in monitored_answers(store.database, "consilium-fake"):
            pass
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    store.commit([entry() for _ in range(60)], DAY)
    peak()
    few = peak()
    for _ in range(6):
        store.commit([entry() for _ in range(60)], DAY)
    assert peak() < 1.5 * few
