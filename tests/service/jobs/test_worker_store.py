"""Jobs in both databases: one process at a time, every study once, and nothing that is not sealed."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, text, update

from service.audit_log import idempotency as claims
from service.audit_log.database import Database, read_url
from service.audit_log.entries import Claim, Task
from service.audit_log.pseudonyms import AuditLogKeys, Unsealable, add_key, read_keys
from service.audit_log.store import OfModel, Store
from service.audit_log.tables import JobInputRow, JobRow, JobStudyRow
from service.audit_log.tasks.leases import Superseded
from service.http.multipart import FileBytes, Form
from service.http.problems import Unavailable
from service.jobs.caller_store import CallerStore, NoSuchJob, NotEnded, TooManyJobs
from service.jobs.worker_store import Taken, WorkerStore
from service.leased_work.sealed_input import sealed, size, unsealed
from service.settings import Settings
from tests.service.audit_log.samples import entry

DAY = 86_400.0
NOTE = b'{"notes": [{"kind": "history", "text": "Jane Quill, born 1950-01-02"}]}'
IMAGES = (FileBytes((b"Quill" * 300_000, b"Quill" * 200_000)), FileBytes(()), FileBytes((b"\n",)))


def large() -> Form:
    """Several pieces."""
    return Form(NOTE, {"images": IMAGES})


def settings(**more: Any) -> Settings:
    return Settings(model="m", **more)


def handed_over(store: Store, *studies: Form, caller: str = "key:a", **more: Any) -> CallerStore:
    caller_store = CallerStore(store, settings(**more))
    caller_store.receive(caller, "diagnose", studies, None)
    return caller_store


def taken(store: Store, **more: Any) -> Taken:
    found = WorkerStore(store, settings(**more)).take()
    assert found is not None
    return found


def answered(store: Store, task: Task, body: bytes = b"{}") -> Exception | None:
    return store.commit([entry(claim=task, body=body)], DAY)[0]


def recorded(store: Store) -> int:
    return len(list(store.recall(OfModel("consilium-fake"))))


def rows(store: Store, table: Any) -> Sequence[Any]:
    with store.database.reading() as session:
        return session.scalars(select(table).order_by(*table.__table__.primary_key)).all()


def lose(store: Store, job: Taken) -> None:
    """Whoever holds `job` gave no sign for long enough."""
    with store.database.writing() as session:
        past = datetime.now(UTC) - timedelta(seconds=1)
        session.execute(update(JobRow).where(JobRow.job_id == job.job_id).values(lease=past))


def test_what_is_handed_over_comes_back_and_is_gone_when_it_is_wiped(store: Store) -> None:
    caller_store, worker_store = handed_over(store, large(), Form(NOTE)), WorkerStore(store, settings())
    job = taken(store)
    assert (job.caller, job.kind, job.studies) == ("key:a", "diagnose", (0, 1))
    assert (worker_store.form(job.task(0)), worker_store.form(job.task(1))) == (large(), Form(NOTE))
    assert [row.size for row in rows(store, JobStudyRow)] == [size(large()), size(Form(NOTE))]
    assert answered(store, job.task(0), b"[0]") is None
    worker_store.wipe(job.task(0))
    assert {row.study for row in rows(store, JobInputRow)} == {1}
    assert rows(store, JobStudyRow)[0].size < 100, "its answer"
    with pytest.raises(Superseded):
        worker_store.form(job.task(0))
    worker_store.refuse(job.task(1), 422, b'{"rule": "x"}')
    worker_store.end(job)
    assert rows(store, JobInputRow) == []
    read, pages = caller_store.lines(job.job_id, "key:a")
    assert (read.state, read.answered, read.refused) == ("done", 1, 1)
    (lines,) = pages
    assert [(line.study, line.status, line.answer) for line in lines] == [(0, 200, b"[0]"), (1, 422, b'{"rule": "x"}')]


def test_a_job_is_one_process_s_at_a_time_the_oldest_first(store: Store) -> None:
    handed_over(store, Form(b"1"))
    handed_over(store, Form(b"2"))
    worker_store = WorkerStore(store, settings())
    first, second = taken(store), taken(store)
    assert worker_store.take() is None
    assert [worker_store.form(job.task(0)).request for job in (first, second)] == [b"1", b"2"]
    worker_store.release(first)
    again = taken(store)
    assert (again.job_id, again.owner == first.owner) == (first.job_id, False)


def test_of_many_who_look_for_a_job_at_once_each_gets_another(url: str, store: Store) -> None:
    for number in range(6):
        handed_over(store, Form(b"%d" % number))
    stores = [Store(Database(read_url(url)), store.keys) for _ in range(3)]
    with ThreadPoolExecutor(6) as threads:
        looked = [threads.submit(WorkerStore(stores[n % 3], settings()).take) for n in range(12)]
        found = [job.job_id for one in looked if (job := one.result()) is not None]
    while (left := WorkerStore(store, settings()).take()) is not None:
        found.append(left.job_id)
    assert len(found) == len(set(found)) == 6
    for one in stores:
        one.database.close()


def test_a_lost_job_goes_on_where_it_was_and_its_old_owner_can_do_nothing(store: Store) -> None:
    handed_over(store, Form(b"0"), Form(b"1"), Form(b"2"))
    worker_store = WorkerStore(store, settings())
    old = taken(store)
    assert answered(store, old.task(0)) is None
    lose(store, old)
    new = taken(store)
    assert (new.job_id, new.studies) == (old.job_id, (1, 2))
    assert isinstance(answered(store, old.task(1)), Superseded)
    for late in (
        lambda: worker_store.refuse(old.task(1), 500, b"{}"),
        lambda: worker_store.renew(old),
        lambda: worker_store.release(old),
        lambda: worker_store.end(old),
    ):
        with pytest.raises(Superseded):
            late()
    assert answered(store, new.task(1)) is None
    assert isinstance(answered(store, new.task(1)), Superseded), "once"
    assert answered(store, new.task(2)) is None
    worker_store.end(new)
    assert recorded(store) == 3


def test_a_lease_that_is_renewed_is_not_lost(store: Store) -> None:
    handed_over(store, Form(b"0"))
    job = taken(store)
    lose(store, job)
    WorkerStore(store, settings()).renew(job)
    assert WorkerStore(store, settings()).take() is None


def test_answers_of_one_transaction_are_kept_or_not_each_for_itself(store: Store) -> None:
    handed_over(store, Form(b"0"), Form(b"1"))
    job = taken(store)
    stranger = Task(job.job_id, 1, entry().result_id)
    claimed = claims.claim(store.database, store.keys, "a", "k", [b"body"], 60)
    assert isinstance(claimed, Claim)
    outcomes = store.commit([entry(claim=job.task(0)), entry(claim=stranger), entry(claim=claimed), entry()], DAY)
    assert [type(one) for one in outcomes] == [type(None), Superseded, type(None), type(None)]
    assert recorded(store) == 3
    assert [row.status for row in rows(store, JobStudyRow)] == [200, None]


def test_a_job_at_which_processes_die_is_given_up(store: Store) -> None:
    caller_store, worker_store = handed_over(store, Form(NOTE), Form(NOTE)), WorkerStore(store, settings())
    job = taken(store)
    answered(store, job.task(0))
    for _ in range(5):
        lose(store, job)
        job = taken(store)
    assert not job.lost
    lose(store, job)
    job = taken(store)
    assert job.lost
    worker_store.give_up(job)
    lines, pages = caller_store.lines(job.job_id, None)
    assert (lines.state, lines.answered, lines.refused) == ("failed", 1, 0)
    assert [line.status for line in next(pages)] == [200, None]
    assert rows(store, JobInputRow) == []


def test_a_cancelled_job_is_answered_no_further(store: Store) -> None:
    caller_store = handed_over(store, Form(NOTE), Form(NOTE))
    job = taken(store)
    answered(store, job.task(0))
    assert caller_store.cancel(job.job_id, "key:a").state == "cancelled"
    assert isinstance(answered(store, job.task(1)), Superseded)
    with pytest.raises(Superseded):
        WorkerStore(store, settings()).form(job.task(1))
    assert caller_store.cancel(job.job_id, "key:a").answered == 1, "as it was"
    assert rows(store, JobInputRow) == []


def test_another_caller_s_job_is_none(store: Store) -> None:
    caller_store = handed_over(store, Form(NOTE))
    job_id = taken(store).job_id
    with pytest.raises(NotEnded):
        caller_store.lines(job_id, "key:a")
    for ask in (caller_store.job, caller_store.cancel, caller_store.lines):
        with pytest.raises(NoSuchJob) as caught:
            ask(job_id, "key:b")
        assert caught.value.status == 404
    assert caller_store.job(job_id, None).state == caller_store.job(job_id, "key:a").state == "running"


def test_jobs_end_with_their_time_and_leave_nothing(store: Store) -> None:
    caller_store = handed_over(store, large(), job_ttl_s=0.001)
    assert WorkerStore(store, settings()).take() is None
    (job,) = rows(store, JobRow)
    with pytest.raises(NoSuchJob):
        caller_store.job(job.job_id, "key:a")
    fresh = handed_over(store, Form(NOTE))
    assert fresh.purge() == 1
    assert fresh.purge() == 0
    assert len(rows(store, JobInputRow)) == 1
    assert [row.state for row in rows(store, JobRow)] == ["queued"]


def test_what_a_crash_left_half_received_is_nobody_s_and_is_deleted(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    caller_store = CallerStore(store, settings())
    monkeypatch.setattr(caller_store, "_queue", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        caller_store.receive("key:a", "diagnose", [Form(NOTE)], None)
    assert rows(store, JobRow) == [], "it cleans up where it can"
    monkeypatch.setattr(caller_store, "_delete", lambda *_: None)
    with pytest.raises(KeyboardInterrupt):
        caller_store.receive("key:a", "diagnose", [Form(NOTE)], None)
    (left,) = rows(store, JobRow)
    assert WorkerStore(store, settings()).take() is None
    with pytest.raises(NoSuchJob):
        caller_store.job(left.job_id, None)
    monkeypatch.undo()
    assert caller_store.purge() == 0, "it may still be coming"
    with store.database.writing() as session:
        session.execute(update(JobRow).values(submitted=datetime.now(UTC) - timedelta(hours=1)))
    assert caller_store.purge() == 1
    assert rows(store, JobInputRow) == []


def test_a_caller_has_so_many_jobs_and_all_have_so_much_room(store: Store) -> None:
    limits = {"jobs_per_caller": 2, "job_storage_bytes": 3 * size(Form(NOTE)) + 50}
    caller_store = handed_over(store, Form(NOTE), **limits)
    caller_store.check_room("key:a")
    handed_over(store, Form(NOTE), **limits)
    with pytest.raises(TooManyJobs) as caught:
        caller_store.check_room("key:a")
    assert (caught.value.status, caught.value.retry_after_s) == (429, 10)
    with pytest.raises(TooManyJobs):
        handed_over(store, Form(NOTE), **limits)
    handed_over(store, Form(NOTE), caller="key:b", **limits)
    with pytest.raises(Unavailable, match="storage quota"):
        handed_over(store, Form(NOTE), caller="key:b", **limits)
    assert len(rows(store, JobStudyRow)) == 3
    job = taken(store)
    answered(store, job.task(0))
    WorkerStore(store, settings()).end(job)
    handed_over(store, Form(NOTE), **limits)


def test_a_job_and_the_claim_of_its_idempotency_key_are_there_together(store: Store) -> None:
    caller_store = CallerStore(store, settings())
    claim = claims.claim(store.database, store.keys, "key:a", "k", [NOTE], 60)
    assert isinstance(claim, Claim)
    job = caller_store.receive("key:a", "explain", [Form(NOTE)], claim)
    assert claims.claim(store.database, store.keys, "key:a", "k", [NOTE], 60) == job.model_dump_json().encode()
    over = claims.claim(store.database, store.keys, "key:a", "other", [NOTE], -1.0)
    assert isinstance(over, Claim)
    assert isinstance(claims.claim(store.database, store.keys, "key:a", "other", [NOTE], 60), Claim)
    with pytest.raises(claims.InFlight):
        caller_store.receive("key:a", "explain", [Form(NOTE)], over)
    assert [row.job_id for row in rows(store, JobRow)] == [job.job_id]


def test_jobs_are_counted_by_their_state(store: Store) -> None:
    caller_store = handed_over(store, Form(NOTE))
    handed_over(store, Form(NOTE))
    taken(store)
    assert {state: count for state, count in caller_store.counts().items() if count} == {"queued": 1, "running": 1}
    assert set(caller_store.counts()) == {"receiving", "queued", "running", "done", "failed", "cancelled"}


def test_after_rotation_what_was_sealed_before_is_still_opened(url: str, store: Store, key_file: Path) -> None:
    handed_over(store, large())
    add_key(key_file)
    rotated = Store(Database(read_url(url)), read_keys(key_file))
    job = taken(rotated)
    assert WorkerStore(rotated, settings()).form(job.task(0)) == large()
    answered(rotated, job.task(0), b"new")
    WorkerStore(rotated, settings()).end(job)
    (lines,) = CallerStore(rotated, settings()).lines(job.job_id, None)[1]
    assert lines[0].answer == b"new"
    (row,) = rows(rotated, JobStudyRow)
    with pytest.raises(Unsealable):
        store.keys.unseal(row.answer, f"job {job.job_id}, answer 0")
    rotated.database.close()


def test_pieces_that_are_missing_exchanged_or_of_another_study_are_not_opened(keys: AuditLogKeys) -> None:
    pieces = list(sealed(large(), keys, "job 1, study 0"))
    assert len(pieces) == 3
    assert unsealed(pieces, keys, "job 1, study 0") == large()
    for wrong, name in (
        (pieces[:2], "job 1, study 0"),
        ([pieces[1], pieces[0], pieces[2]], "job 1, study 0"),
        (pieces, "job 1, study 1"),
        ([pieces[0][:-1] + b"x", *pieces[1:]], "job 1, study 0"),
        ([b"", *pieces[1:]], "job 1, study 0"),
    ):
        with pytest.raises(Unsealable):
            unsealed(wrong, keys, name)


def test_nothing_of_a_study_can_be_read_in_the_database(store: Store) -> None:
    handed_over(store, large())
    job = taken(store)
    answered(store, job.task(0), NOTE)
    if store.database.path is not None:
        files = [path.read_bytes() for path in store.database.path.parent.glob("audit-log.db*")]
    else:
        with store.database.reading() as session:
            files = [bytes(row) for row in session.scalars(select(JobInputRow.data))]
            files += [bytes(row) for row in session.scalars(select(JobStudyRow.answer))]
            files += [
                str(session.execute(text(f"SELECT * FROM {name}")).all()).encode() for name in ("jobs", "results")
            ]
    assert sum(map(len, files)) > 2_000_000
    assert [word for word in (b"Quill", b"1950-01-02") for data in files if word in data] == []
