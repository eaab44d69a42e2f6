"""Studies of one patient are found by a keyed digest, and by nothing that lies open."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import select, text, update

from consilium.api.schemas import PatientView
from consilium.domain.study import Sex, identifier_digest
from service.audit_log.pseudonyms import AuditLogKeys, add_key
from service.audit_log.store import Store
from service.audit_log.tables import StudyRow
from service.audit_log.tasks.study_answers import ANSWERED, study_place
from service.settings import Settings
from service.studies import worklines
from service.studies.patient_index import NOT_INDEXED, PatientIndex, of_patient_id, patient_code
from service.studies.reader import Reader
from service.studies.reader_store import ReaderStore
from service.studies.stored_contents import StoredContents, StoredSummary, sealed_model
from service.studies.worklines import Asked

NOW = datetime.now(UTC)
ANN = Reader("oidc:ann", frozenset({"chest"}))
ADMIN = Reader("key:admin", None)
Keep = Callable[..., UUID]


@pytest.fixture
def keep(store: Store) -> Keep:
    """Stores a study, each a day earlier than the one before."""
    kept: list[UUID] = []

    def stored(patient: str | None, *, group: str = "chest", issuer: str | None = None, old: bool = False) -> UUID:
        study_id, when = uuid4(), NOW - timedelta(days=len(kept))
        summary = StoredSummary(
            studied=when,
            patient=PatientView(label=f"Roe · {patient}", age=None, sex=Sex.UNKNOWN),
            modalities=("image",),
            image_count=1,
            patient_digest=identifier_digest(patient or ""),
            issuer_digest=identifier_digest(issuer or ""),
        )
        row = StudyRow(
            study_id=study_id,
            reading_group=group,
            caller="key:router",
            state=ANSWERED,
            submitted=when,
            pixels_until=NOW + timedelta(days=30),
            expires=NOW + timedelta(days=30),
            losses=0,
            size=0,
            patient="" if old else patient_code(store.keys, summary.patient_digest),
            summary=sealed_model(store.keys, study_id, "summary", summary),
            contents=sealed_model(store.keys, study_id, "contents", StoredContents(shown={}, warnings=(), left_out=())),
        )
        with store.database.writing() as session:
            session.add(row)
        kept.append(study_id)
        return study_id

    return stored


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is unsealed from now on, by its place."""
    places: list[str] = []
    unseal = AuditLogKeys.unseal

    def counted(keys: AuditLogKeys, sealed: bytes, place: str) -> bytes:
        places.append(place)
        return unseal(keys, sealed, place)

    monkeypatch.setattr(AuditLogKeys, "unseal", counted)
    return places


def reader_store(store: Store) -> ReaderStore:
    return ReaderStore(store, Settings(model="none", studies=True))


def priors(store: Store, study_id: UUID, reader: Reader = ANN) -> list[UUID]:
    return [one.study_id for one in reader_store(store).detail(study_id, reader, ()).priors]


def listed(store: Store, reader: Reader = ANN, **asked: Any) -> list[UUID]:
    return [one.study_id for one in reader_store(store).worklist(reader, Asked(**asked)).studies]


def not_indexed(store: Store) -> set[UUID]:
    with store.database.reading() as session:
        return set(session.scalars(select(StudyRow.study_id).where(NOT_INDEXED)))


def test_priors_are_found_without_unsealing_the_studies_of_others(store: Store, keep: Keep, opened: list[str]) -> None:
    study, *others = keep("A1"), keep("B2"), keep("B3"), keep(None)
    earlier = [keep("A1"), keep(" A1 ")]
    keep("A1", group="bone")
    opened.clear()
    assert priors(store, study) == earlier
    assert not [place for place in opened if any(str(one) in place for one in others)]
    assert priors(store, others[-1]) == [], "who is not named has no priors"


def test_the_same_id_of_two_issuers_is_of_two_patients(store: Store, keep: Keep) -> None:
    study = keep("A1", issuer="north")
    keep("A1", issuer="south")
    same, unnamed = keep("A1", issuer="north"), keep("A1")
    assert priors(store, study) == [same, unnamed]


def test_studies_are_found_by_the_whole_id_of_their_patient(store: Store, keep: Keep, opened: list[str]) -> None:
    keep("A12"), keep("A1", group="bone")
    mine = [keep("A1"), keep("A1")]
    opened.clear()
    assert listed(store, patient_id="A1") == mine
    assert {place.split()[1].rstrip(",") for place in opened} == {str(one) for one in mine}
    assert listed(store, patient_id="A1", limit=1, after=mine[0]) == mine[1:]
    assert listed(store, patient_id="A1", sort="studied") == mine
    assert (listed(store, patient_id="a1"), listed(store, patient_id="A1", state="read")) == ([], [])
    assert len(listed(store, ADMIN, patient_id="A1")) == 3


def test_a_part_of_an_id_is_looked_for_in_the_latest_studies_and_a_whole_one_in_all(
    store: Store, keep: Keep, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worklines, "MOST_SEARCHED", 2)
    late = [keep("Zq12"), keep("B1")]
    early = keep("Zq1")
    found = reader_store(store).worklist(ANN, Asked(search="Zq1"))
    assert ([one.study_id for one in found.studies], found.searched) == ([late[0], early], 2)
    assert listed(store, search=str(early)) == [early]
    assert listed(store, search=str(early)[:-1]) == []
    monkeypatch.setattr(worklines, "MOST_SEARCHED", 3)
    assert reader_store(store).worklist(ANN, Asked(search="Zq1")).searched is None


def test_what_an_older_key_signed_is_found_beside_what_the_newest_signs(
    store: Store, keep: Keep, key_file: Path
) -> None:
    before = keep("A1")
    renewed = Store(store.database, add_key(key_file))
    with store.database.reading() as session:
        assert session.scalars(select(StudyRow.study_id).where(of_patient_id(renewed.keys, "A1"))).all() == [before]
    assert patient_code(renewed.keys, identifier_digest("A1")) != patient_code(store.keys, identifier_digest("A1"))
    assert listed(renewed, patient_id="A1") == [before]


def test_studies_of_an_earlier_version_are_priors_at_once_and_indexed_later(store: Store, keep: Keep) -> None:
    study = keep("A1")
    old, nobody = keep("A1", old=True), keep(None, old=True)
    assert priors(store, study) == [old]
    assert listed(store, patient_id="A1") == [study]
    assert PatientIndex(store).fill() == 2
    assert not_indexed(store) == set()
    assert (priors(store, study), listed(store, patient_id="A1"), priors(store, nobody)) == ([old], [study, old], [])
    assert PatientIndex(store).fill() == 0


def test_what_no_key_opens_is_left_out_and_said(store: Store, keep: Keep, caplog: pytest.LogCaptureFixture) -> None:
    broken, old = keep("A1", old=True), keep("A1", old=True)
    with store.database.writing() as session:
        session.get_one(StudyRow, broken).summary = b"none:of these"
    assert PatientIndex(store).fill() == 1
    assert not_indexed(store) == {broken}
    assert "1 stored studies: none of the audit log's keys opens them" in caplog.text
    assert listed(store, patient_id="A1") == [old]


@pytest.mark.parametrize("of", ["A1", "B1"])
def test_what_no_key_opens_keeps_no_other_study_from_readers(
    store: Store, keep: Keep, caplog: pytest.LogCaptureFixture, of: str
) -> None:
    study, broken, earlier = keep("A1"), keep(of, old=True), keep("A1")
    with store.database.writing() as session:
        session.get_one(StudyRow, broken).summary = b"none:of these"
    assert priors(store, study) == [earlier]
    for asked in ({}, {"sort": "studied"}, {"search": "Roe"}, {"limit": 3}):
        assert listed(store, **asked) == [study, earlier]
    assert f"stored study {broken}: none of the audit log's keys opens it" in caplog.text


def test_the_column_holds_no_digest_that_could_be_guessed(store: Store, keep: Keep) -> None:
    keep("A1")
    with store.database.reading() as session:
        (code,) = session.scalars(select(StudyRow.patient)).all()
    assert len(code) == 64
    assert code not in {identifier_digest("A1"), hashlib.sha256(b"patient\0A1").hexdigest()}


def test_the_database_finds_a_patient_by_an_index(store: Store, keep: Keep) -> None:
    keep("A1")
    is_sqlite = store.database.path is not None
    with store.database.reading() as session:
        if not is_sqlite:
            session.execute(text("SET LOCAL enable_seqscan = off"))
        wanted = select(StudyRow.study_id).where(ANN.own, of_patient_id(store.keys, "A1"))
        statement = wanted.compile(session.connection(), compile_kwargs={"literal_binds": True})
        plan = session.execute(text(f"EXPLAIN {'QUERY PLAN ' if is_sqlite else ''}{statement}")).all()
    assert "ix_studies_patient_reading_group" in str(plan)


def test_a_worklist_that_is_sorted_by_day_again_unseals_its_page_alone(
    store: Store, keep: Keep, opened: list[str]
) -> None:
    studies = [keep(f"A{number}") for number in range(5)]
    again = reader_store(store)
    opened.clear()
    assert [one.study_id for one in again.worklist(ANN, Asked(sort="studied", limit=2)).studies] == studies[:2]
    assert len(opened) == 5 + 2
    new = keep("A9")
    opened.clear()
    second = again.worklist(ANN, Asked(sort="studied", limit=2, after=studies[3]))
    assert ([one.study_id for one in second.studies], second.total) == ([studies[4], new], 6)
    assert sorted(opened) == sorted(study_place(one, "summary") for one in (new, studies[4], new))


def test_what_no_key_opens_stands_last_in_a_sorted_worklist_and_keeps_no_other_from_readers(
    store: Store, keep: Keep
) -> None:
    latest, broken, earliest = keep("A1"), keep("A2"), keep("A3")
    with store.database.writing() as session:
        session.execute(update(StudyRow).where(StudyRow.study_id == broken).values(summary=b"of another key"))
    assert listed(store, sort="studied") == [latest, earliest]
    assert listed(store, sort="studied", after=latest) == [earliest]
