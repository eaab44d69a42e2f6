from __future__ import annotations

import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DataError

from consilium.api.schemas import FeedbackRequest, ResultAnswer
from consilium.domain.errors import InputError
from consilium.domain.study import identifier_digest
from service.audit_log import store as storing
from service.audit_log.database import Database, read_url
from service.audit_log.entries import Endpoint, Origin
from service.audit_log.pseudonyms import Kind, add_key
from service.audit_log.store import NoSuchResult, OfModel, OfPseudonym, Store
from service.audit_log.tables import Base
from tests.service.audit_log.samples import NOTE, NOW, PATIENT, STUDY_UID, entry

DAY = 86_400.0


def test_what_is_committed_is_read_again(store: Store) -> None:
    given = entry(endpoint=Endpoint.EXPLAIN)
    assert store.commit([given, entry()], DAY) == [None, None]
    stored = store.result(given.result_id)
    newest = store.keys.newest
    assert (stored.result_id, stored.time, stored.endpoint, stored.role) == (given.result_id, NOW, "explain", "serving")
    assert (stored.caller, stored.request_id) == ("key:ward3", given.origin.request_id)
    assert stored.model == given.diagnosis.model
    for one, own in zip(stored.findings, given.diagnosis.findings, strict=True):
        assert (one.finding, one.probability, one.interval) == (own.finding, own.probability, own.interval)
        assert (one.call, one.threshold, one.prediction_set) == (True, 0.5, ("present",))
    assert (stored.refer_reasons, stored.latencies_ms) == (("A rule.",), given.latencies_ms)
    assert stored.pseudonyms.key_id == newest.id
    assert stored.pseudonyms.patient == newest.pseudonym(Kind.PATIENT, str(identifier_digest(PATIENT)))
    assert stored.pseudonyms.study == newest.pseudonym(Kind.STUDY, str(identifier_digest(STUDY_UID)))
    assert stored.pseudonyms.caller_reference == newest.pseudonym(Kind.REFERENCE, "Roe^Jane")
    note = newest.pseudonym(Kind.INPUT, given.study.parts["text"][0].digest)
    assert stored.input_digests == {
        "images[0]": f"sha256:{'5a' * 32}",
        "notes[0]": f"hmac-sha256:{newest.id}:{note}",
    }
    assert stored.feedback == ()


def test_what_was_not_given_has_no_pseudonym(store: Store) -> None:
    given = entry(patient=None, caller_reference=None)
    store.commit([given], DAY)
    pseudonyms = store.result(given.result_id).pseudonyms
    assert (pseudonyms.patient, pseudonyms.caller_reference) == (None, None)
    assert pseudonyms.study is not None


def test_a_request_id_of_the_caller_is_stored_as_a_digest(store: Store) -> None:
    given = entry(origin=Origin("key:ward3", "Jane-Roe"))
    store.commit([given], DAY)
    expected = store.keys.newest.pseudonym(Kind.REQUEST, "Jane-Roe")
    assert store.result(given.result_id).request_id == f"hmac-sha256:{store.keys.newest.id}:{expected}"


def test_an_unknown_result_is_named(store: Store) -> None:
    missing = uuid4()
    with pytest.raises(NoSuchResult) as caught:
        store.result(missing)
    assert (caught.value.status, caught.value.value) == (404, str(missing))
    with pytest.raises(NoSuchResult):
        store.add_feedback(FeedbackRequest(result_id=missing, findings={"pneumonia": "present"}), "a")


def test_a_batch_with_one_bad_row_leaves_none_of_it(store: Store) -> None:
    good = entry()
    with pytest.raises(Exception, match=r"(?i)integrity|unique"):
        store.commit([good, entry(result_id=good.result_id)], DAY)
    with pytest.raises(NoSuchResult):
        store.result(good.result_id)


def feedback(result_id: UUID, **findings: Any) -> FeedbackRequest:
    return FeedbackRequest(result_id=result_id, findings=findings)


def test_feedback_is_kept_beside_earlier_feedback(store: Store) -> None:
    given = entry()
    store.commit([given], DAY)
    first = store.add_feedback(feedback(given.result_id, pneumonia="present", pneumothorax="unknown"), "key:a")
    second = store.add_feedback(feedback(given.result_id, pneumonia="absent"), "key:b")
    kept = store.result(given.result_id).feedback
    assert [(line.feedback_id, line.finding, line.state, line.caller) for line in kept] == [
        (first.feedback_id, "pneumonia", "present", "key:a"),
        (first.feedback_id, "pneumothorax", "unknown", "key:a"),
        (second.feedback_id, "pneumonia", "absent", "key:b"),
    ]
    assert [line.time for line in kept] == [first.time, first.time, second.time]


def test_feedback_on_a_finding_that_was_not_answered_is_refused_whole(store: Store) -> None:
    given = entry()
    store.commit([given], DAY)
    with pytest.raises(InputError, match=r"findings: got 'pneumonai'.*nearest is 'pneumonia'"):
        store.add_feedback(feedback(given.result_id, pneumothorax="present", pneumonai="present"), "a")
    assert store.result(given.result_id).feedback == ()


def ids(answers: Iterable[ResultAnswer]) -> list[UUID]:
    return [answer.result_id for answer in answers]


def test_recall_by_model_and_by_version(store: Store) -> None:
    old, new = entry(version="7"), entry(version="8")
    store.commit([old, new], DAY)
    assert set(ids(store.recall(OfModel("consilium-fake")))) == {old.result_id, new.result_id}
    assert ids(store.recall(OfModel("consilium-fake", "8"))) == [new.result_id]
    assert ids(store.recall(OfModel("consilium-other"))) == []


def test_recall_over_several_pages_leaves_none_out(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storing, "_ROWS_AT_ONCE", 2)
    given = [entry(time=NOW.replace(hour=hour)) for hour in (8, 7, 7, 7, 9, 7)]
    store.commit(given, DAY)
    for one in given:
        store.add_feedback(feedback(one.result_id, pneumonia="absent"), "a")
    found = list(store.recall(OfModel("consilium-fake")))
    assert sorted(ids(found)) == sorted(one.result_id for one in given)
    assert [one.time for one in found] == sorted(one.time for one in given)
    assert all(len(one.feedback) == 1 for one in found)


def test_a_row_that_the_database_refuses_is_not_reported_as_an_outage(store: Store) -> None:
    """PostgreSQL takes no NUL in a text. The batcher tries the others of its batch again without it."""
    impossible = entry(origin=Origin("oidc:a\0b", str(uuid4())))
    if store.database.path is None:
        with pytest.raises(DataError):
            store.commit([entry(), impossible], DAY)
        assert ids(store.recall(OfModel("consilium-fake"))) == []
    else:
        assert store.commit([impossible], DAY) == [None]


def test_recall_of_a_patient_finds_what_an_older_key_signed(url: str, store: Store, key_file: Path) -> None:
    before, stranger = entry(), entry(patient="MRN-4711")
    store.commit([before, stranger], DAY)
    store.database.close()
    rotated = Store(Database(read_url(url)), add_key(key_file))
    after = entry(time=NOW.replace(hour=10))
    rotated.commit([after], DAY)
    rotated.add_feedback(feedback(before.result_id, pneumonia="absent"), "a")

    found = list(rotated.recall(OfPseudonym(Kind.PATIENT, str(identifier_digest(PATIENT)))))
    assert ids(found) == [before.result_id, after.result_id]
    assert found[0].pseudonyms.key_id != found[1].pseudonyms.key_id
    assert [line.state for line in found[0].feedback] == ["absent"]
    assert len(ids(rotated.recall(OfPseudonym(Kind.STUDY, str(identifier_digest(STUDY_UID)))))) == 3
    assert len(ids(rotated.recall(OfPseudonym(Kind.REFERENCE, "Roe^Jane")))) == 3
    assert ids(rotated.recall(OfPseudonym(Kind.PATIENT, PATIENT))) == []
    rotated.database.close()


def test_several_writers_share_one_store(url: str, store: Store) -> None:
    """As several processes: each with a database of its own, opened and migrated at the same time."""
    others = [Store(Database(read_url(url), timeout_s=30), store.keys) for _ in range(4)]
    given = [[entry() for _ in range(5)] for _ in others]

    def write(other: Store, mine: list[Any]) -> None:
        for one in mine:
            other.commit([one], DAY)

    threads = [threading.Thread(target=write, args=pair) for pair in zip(others, given, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    kept = ids(store.recall(OfModel("consilium-fake")))
    assert sorted(kept) == sorted(one.result_id for mine in given for one in mine)
    for other in others:
        other.database.close()


def test_nothing_that_names_a_patient_is_in_the_rows(store: Store) -> None:
    given = entry(origin=Origin("key:ward3", "Jane-Roe"))
    store.commit([given], DAY)
    with store.database.reading() as session:
        rows = [
            str(tuple(row))
            for table in Base.metadata.sorted_tables
            for row in session.execute(text(f"SELECT * FROM {table.name}"))
        ]
    assert rows
    for planted in ("Jane", "Roe", "1950-01-01", PATIENT, STUDY_UID, NOTE, given.study.parts["text"][0].digest):
        assert planted not in "\n".join(rows)
