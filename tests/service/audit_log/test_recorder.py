from __future__ import annotations

import asyncio
import logging
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

import pytest

from consilium.api.schemas import DiagnosisAnswer
from consilium.domain.errors import InputError
from service.audit_log import idempotency as claims
from service.audit_log import recorder as recording
from service.audit_log.database import Database, read_url
from service.audit_log.entries import Claim, Draft, Endpoint, Origin
from service.audit_log.idempotency import InFlight
from service.audit_log.pseudonyms import read_keys
from service.audit_log.recorder import Answered, Recorder
from service.audit_log.retention import purge
from service.audit_log.store import OfModel, Store
from service.http.problems import Unavailable
from service.serving.served_model import Case
from service.settings import Settings
from tests.patience import PATIENCE_S
from tests.postgres import Cluster
from tests.service.fakes import FakeModel, note_study, reads
from tests.service.no_room import no_room

ORIGIN = Origin("key:a", "request-1", "k")


def exercise(scenario: Callable[[Recorder], Awaitable[None]], **settings: Any) -> None:
    async def go() -> None:
        recorder = Recorder(Settings(model="fake", **settings))
        await recorder.start()
        try:
            await scenario(recorder)
        finally:
            await recorder.stop()

    asyncio.run(asyncio.wait_for(go(), PATIENCE_S))


async def record(recorder: Recorder, claim: Claim | None = None) -> Answered:
    model = cast(Any, FakeModel())
    case = Case.of(model, reads(note_study("Cough.")))
    (diagnosis,) = model.diagnose_prepared([case.prepared])
    draft = Draft(Endpoint.DIAGNOSE, ORIGIN, None, claim)
    answer = DiagnosisAnswer(**dict(diagnosis), **draft.service_fields())
    return await recorder.record(draft, case.prepared.study, case.role, diagnosis, answer)


def test_an_audit_log_that_is_down_at_the_start_is_used_when_it_is_up(
    cluster: Cluster, key_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(recorder: Recorder) -> None:
        with pytest.raises(Unavailable) as caught:
            await record(recorder)
        assert caught.value.retry_after_s == 7
        await asyncio.to_thread(cluster.start)
        assert DiagnosisAnswer.model_validate_json((await record(recorder)).body).result_id is not None

    url = cluster.new_database()
    cluster.stop()
    with caplog.at_level(logging.WARNING):
        exercise(scenario, audit_log_url=url, audit_log_keys=key_file, audit_log_timeout_s=2, retry_after_s=7)
    assert "audit log: OperationalError" in caplog.text
    password = read_url(url).password
    assert password is not None
    assert str(password) not in caplog.text


def test_an_audit_log_that_is_locked_at_the_start_is_retried_until_it_is_free(
    embedded_audit_log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recording, "_RETRY_S", 0.01)
    holder = sqlite3.connect(embedded_audit_log / "audit-log.db", isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")

    async def scenario(recorder: Recorder) -> None:
        assert not recorder.ready
        holder.execute("ROLLBACK")
        while not recorder.ready:
            await asyncio.sleep(0.01)

    async def need_not_be(recorder: Recorder) -> None:
        assert recorder.ready

    exercise(need_not_be, audit_log_timeout_s=0.1, audit_log_required=False)
    exercise(scenario, audit_log_timeout_s=0.1)
    holder.close()


@pytest.mark.parametrize("asked", [True, False], ids=["asked", "idle"])
def test_while_there_is_no_room_the_service_is_not_ready_and_says_why_once(
    asked: bool, embedded_audit_log: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(recording, "_RETRY_S", 0.02)
    monkeypatch.setattr(recording, "_PROBE_EVERY_S", 3600.0 if asked else 0.0)

    async def scenario(recorder: Recorder) -> None:
        await record(recorder)
        assert recorder.ready
        with no_room(4096):
            if asked:
                with pytest.raises(Unavailable, match="The audit log is unavailable"):
                    await record(recorder)
            while recorder.ready:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.1)
            assert not recorder.ready, "it does not come and go"
        while not recorder.ready:
            await asyncio.sleep(0.01)
        assert DiagnosisAnswer.model_validate_json((await record(recorder)).body).result_id is not None
        assert await asyncio.to_thread(_claims, recorder.opened.database) == 0, "what was tried is gone"

    with caplog.at_level(logging.INFO):
        exercise(scenario)
    logged = [line for line in caplog.messages if line.startswith("nothing can be recorded")]
    assert len(logged) == 1
    assert logged[0].endswith("audit log: OperationalError: disk I/O error")
    assert "the audit log can be written again" in caplog.messages


def test_a_full_disk_at_the_start_is_logged(embedded_audit_log: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(recorder: Recorder) -> None:
        assert not recorder.ready

    with no_room(4096), caplog.at_level(logging.INFO):
        exercise(scenario)
    assert "nothing can be recorded, and the service is not ready: audit log: OperationalError: disk I/O error" in (
        caplog.messages
    )


@pytest.mark.parametrize(
    "wrong",
    [{"audit_log_keys": Path("none")}, {"audit_log_url": "mysql://root@db/record"}, {"audit_log_url": "sqlite:////"}],
    ids=["keys", "url", "file"],
)
def test_what_cannot_be_right_keeps_the_service_from_starting(wrong: dict[str, Any]) -> None:
    async def scenario(_: Recorder) -> None:
        pytest.fail("it started")

    with pytest.raises(InputError, match="CONSILIUM_AUDIT_LOG_"):
        exercise(scenario, **wrong)


def test_what_arrives_during_a_commit_is_committed_together(embedded_audit_log: Path) -> None:
    sizes: list[int] = []

    async def scenario(recorder: Recorder) -> None:
        store = recorder.opened
        commit = store.commit

        def counted(entries: Any, replay_s: float) -> Any:
            sizes.append(len(entries))
            return commit(entries, replay_s)

        store.commit = counted  # type: ignore[method-assign]
        await asyncio.gather(*[record(recorder) for _ in range(10)])

    exercise(scenario)
    assert sizes == [10]


def test_stopping_commits_what_waits(embedded_audit_log: Path) -> None:
    answers: list[asyncio.Task[Answered]] = []

    async def scenario(recorder: Recorder) -> None:
        answers.extend(asyncio.create_task(record(recorder)) for _ in range(3))
        await asyncio.sleep(0)

    exercise(scenario)
    result_ids = {DiagnosisAnswer.model_validate_json(answer.result().body).result_id for answer in answers}
    store = Store(
        Database(read_url(f"sqlite:///{embedded_audit_log / 'audit-log.db'}")),
        read_keys(embedded_audit_log / "audit-log.keys"),
    )
    assert {one.result_id for one in store.recall(OfModel("consilium-fake"))} == result_ids
    assert purge(store.database, timedelta(hours=1)).results == 0
    store.database.close()


def test_a_cancelled_request_gives_its_key_back() -> None:
    async def scenario(recorder: Recorder) -> None:
        held = asyncio.Event()

        async def hold() -> None:
            async with recorder.claimed(ORIGIN, b"body") as claim:
                assert isinstance(claim, Claim)
                held.set()
                await asyncio.sleep(60)

        holding = asyncio.create_task(hold())
        await held.wait()
        with pytest.raises(InFlight):
            async with recorder.claimed(ORIGIN, b"body"):
                pass
        holding.cancel()
        with pytest.raises(asyncio.CancelledError):
            await holding
        async with recorder.claimed(ORIGIN, b"body") as claim:
            assert isinstance(claim, Claim)
            answered = await record(recorder, claim)
        async with recorder.claimed(ORIGIN, b"body") as again:
            assert again == answered.body

    exercise(scenario)


def test_a_request_cancelled_amid_its_claim_gives_the_key_back(monkeypatch: pytest.MonkeyPatch) -> None:
    claiming, go_on = threading.Event(), threading.Event()
    claim = claims.claim

    def slow(*arguments: Any) -> Claim | bytes:
        claiming.set()
        go_on.wait(PATIENCE_S)
        return claim(*arguments)

    async def scenario(recorder: Recorder) -> None:
        async def ask() -> None:
            async with recorder.claimed(ORIGIN, b"body"):
                pytest.fail("its caller had gone")

        asking = asyncio.create_task(ask())
        await asyncio.to_thread(claiming.wait, PATIENCE_S)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        go_on.set()
        monkeypatch.setattr(claims, "claim", claim)
        async with recorder.claimed(ORIGIN, b"other body") as taken:
            assert isinstance(taken, Claim)

    monkeypatch.setattr(claims, "claim", slow)
    exercise(scenario)


def test_answers_are_forgotten_when_their_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "_EXPIRE_EVERY_S", 0.01)

    async def scenario(recorder: Recorder) -> None:
        async with recorder.claimed(ORIGIN, b"body") as claim:
            assert isinstance(claim, Claim)
            await record(recorder, claim)
        database = recorder.opened.database
        while await asyncio.to_thread(_claims, database):
            await asyncio.sleep(0.01)

    exercise(scenario, idempotency_s=0.01)


def _claims(database: Database) -> int:
    from sqlalchemy import text

    with database.reading() as session:
        return int(session.execute(text("SELECT count(*) FROM claims")).scalar() or 0)


def test_a_process_that_was_killed_leaves_its_keys_to_the_next_and_no_other_does(
    embedded_audit_log: Path, url: str, key_file: Path
) -> None:
    given = {"audit_log_url": url, "audit_log_keys": key_file}

    async def claims_again(recorder: Recorder) -> None:
        async with recorder.claimed(ORIGIN, b"body") as claim:
            assert isinstance(claim, Claim)
        for key in ("elsewhere", "alive"):
            with pytest.raises(InFlight):
                async with recorder.claimed(Origin("key:a", "request-1", key), b"body"):
                    pass

    async def claims_elsewhere(recorder: Recorder) -> None:
        store = recorder.opened
        claims.claim(store.database, store.keys, "key:a", "elsewhere", [b"body"], 60, uuid4())
        async with recorder.claimed(Origin("key:a", "request-1", "alive"), b"body"):
            killed = subprocess.Popen([sys.executable, "-c", CLAIMING, url, str(key_file)], stdout=subprocess.PIPE)
            assert killed.stdout is not None
            assert killed.stdout.readline() == b"claimed\n"
            with pytest.raises(InFlight):
                async with recorder.claimed(ORIGIN, b"body"):
                    pass
            killed.kill()
            killed.communicate()
            other = Recorder(Settings(model="fake", **given))
            await other.start()
            await claims_again(other)
            await other.stop()

    exercise(claims_elsewhere, **given)
    assert list((embedded_audit_log / "processes").iterdir()) == []


CLAIMING = """
import asyncio, sys
from service.audit_log.entries import Origin
from service.audit_log.recorder import Recorder
from service.settings import Settings

async def go():
    recorder = Recorder(Settings(model="fake", audit_log_url=sys.argv[1], audit_log_keys=sys.argv[2]))
    await recorder.start()
    async with recorder.claimed(Origin("key:a", "request-1", "k"), b"body"):
        print("claimed", flush=True)
        await asyncio.sleep(600)

asyncio.run(go())
"""


def test_where_no_process_can_be_known_keys_are_claimed_all_the_same(
    embedded_audit_log: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (embedded_audit_log / "processes").touch()

    async def scenario(recorder: Recorder) -> None:
        async with recorder.claimed(ORIGIN, b"body") as claim:
            assert isinstance(claim, Claim)

    exercise(scenario)
    assert "idempotency keys stay claimed for 45 s after a crash" in caplog.text
