from __future__ import annotations

import sqlite3
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from consilium.api.schemas import FeedbackRequest
from consilium.domain.errors import InputError
from service.audit_log import idempotency as claims
from service.audit_log import retention
from service.audit_log.database import Database, read_url
from service.audit_log.entries import Claim
from service.audit_log.pseudonyms import AuditLogKeys
from service.audit_log.retention import BrokenBackup, Purged
from service.audit_log.store import NoSuchResult, OfModel, Store
from tests.service.audit_log.samples import entry

DAY = 86_400.0
YEAR = timedelta(days=365)


def ago(days: float) -> datetime:
    return datetime.now(UTC) - timedelta(days=days)


def test_purge_takes_old_answers_with_all_that_hangs_on_them(store: Store) -> None:
    claim = claims.claim(store.database, store.keys, "a", "k", [b""], 60)
    assert isinstance(claim, Claim)
    old, young = entry(time=ago(366), claim=claim), entry(time=ago(364))
    store.commit([old, young], 1000 * DAY)
    for one in (old, young):
        store.add_feedback(FeedbackRequest(result_id=one.result_id, findings={"pneumonia": "absent"}), "a")
    assert retention.purge(store.database, YEAR) == Purged(results=1, feedback=1, replays=0)
    with pytest.raises(NoSuchResult):
        store.result(old.result_id)
    assert len(store.result(young.result_id).feedback) == 1
    assert isinstance(claims.claim(store.database, store.keys, "a", "k", [b"other"], 60), Claim), "no replay is left"
    assert retention.purge(store.database, YEAR) == Purged(0, 0, 0)


def test_purge_goes_on_until_nothing_old_is_left(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "_DELETED_AT_ONCE", 2)
    monkeypatch.setattr(claims, "_DELETED_AT_ONCE", 2)
    for key in "abcde":
        claims.claim(store.database, store.keys, "a", key, [b""], -1)
    old, young = [entry(time=ago(366)) for _ in range(4)], entry(time=ago(1))
    store.commit([*old, young], DAY)
    assert retention.purge(store.database, YEAR) == Purged(results=4, feedback=0, replays=5)
    assert [one.result_id for one in store.recall(OfModel("consilium-fake"))] == [young.result_id]


def test_purge_of_nearly_nothing_overflows_no_calendar(store: Store) -> None:
    store.commit([entry(time=ago(366))], DAY)
    assert retention.purge(store.database, retention.read_age("x", "999999w")) == Purged(0, 0, 0)


def test_what_sqlite_deletes_is_overwritten(tmp_path: Path, keys: AuditLogKeys) -> None:
    path = tmp_path / "audit-log.db"
    store = Store(Database(read_url(f"sqlite:///{path}")), keys)
    old, young = entry(time=ago(400)), entry()
    store.commit([old, young], DAY)
    retention.purge(store.database, YEAR)
    held = b"".join(file.read_bytes() for file in tmp_path.glob("audit-log.db*"))
    assert young.result_id.hex.encode() in held
    assert old.result_id.hex.encode() not in held
    store.database.close()


@pytest.mark.parametrize(("given", "age"), [("365d", YEAR), ("12h", timedelta(hours=12)), ("2w", timedelta(days=14))])
def test_an_age_is_read(given: str, age: timedelta) -> None:
    assert retention.read_age("--older-than", given) == age


@pytest.mark.parametrize("given", ["", "365", "0d", "-1d", "1y", "d", "1d2h", "99999999d", "³d"])
def test_an_age_that_is_none_is_refused(given: str) -> None:
    with pytest.raises(InputError, match="--older-than: got"):
        retention.read_age("--older-than", given)


def test_a_backup_taken_while_the_audit_log_is_open_is_the_audit_log(tmp_path: Path, keys: AuditLogKeys) -> None:
    store = Store(Database(read_url(f"sqlite:///{tmp_path / 'audit-log.db'}")), keys)
    before, after = entry(), entry()
    store.commit([before], DAY)
    store.add_feedback(FeedbackRequest(result_id=before.result_id, findings={"pneumonia": "absent"}), "a")
    copy = tmp_path / "backup.db"
    retention.backup(store.database, copy)
    store.commit([after], DAY)
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600

    restored = Store(Database(read_url(f"sqlite:///{tmp_path / 'elsewhere' / 'audit-log.db'}")), keys)
    retention.restore(restored.database, copy)
    assert list(restored.recall(OfModel("consilium-fake"))) == [store.result(before.result_id)]
    restored.commit([after], DAY)
    assert list((tmp_path / "elsewhere").glob(".*")) == []
    restored.database.close()
    store.database.close()


def test_neither_a_backup_nor_an_audit_log_is_overwritten(tmp_path: Path, keys: AuditLogKeys) -> None:
    store = Store(Database(read_url(f"sqlite:///{tmp_path / 'audit-log.db'}")), keys)
    store.commit([entry()], DAY)
    copy = tmp_path / "backup.db"
    retention.backup(store.database, copy)
    taken = copy.read_bytes()
    for again in (retention.backup, retention.restore):
        with pytest.raises(InputError, match=r"must not exist yet|moved away"):
            again(store.database, copy)
    assert copy.read_bytes() == taken
    assert len(list(store.recall(OfModel("consilium-fake")))) == 1
    store.database.close()


def test_a_copy_that_cannot_be_written_is_refused_by_name(tmp_path: Path, keys: AuditLogKeys) -> None:
    store = Store(Database(read_url(f"sqlite:///{tmp_path / 'audit-log.db'}")), keys)
    store.commit([entry()], DAY)
    for folder in (tmp_path / "none", tmp_path / "audit-log.db"):
        with pytest.raises(InputError, match=r"copy\.db', must be a file that can be written \(No.* director"):
            retention.backup(store.database, folder / "copy.db")
    retention.backup(store.database, tmp_path / "copy.db")
    elsewhere = Database(read_url(f"sqlite:///{tmp_path / 'audit-log.db' / 'other.db'}"))
    with pytest.raises(InputError, match=r"other\.db', must be a file that can be written"):
        retention.restore(elsewhere, tmp_path / "copy.db")
    store.database.close()


def test_a_leftover_write_ahead_log_is_not_applied_to_a_restored_audit_log(tmp_path: Path, keys: AuditLogKeys) -> None:
    store = Store(Database(read_url(f"sqlite:///{tmp_path / 'audit-log.db'}")), keys)
    store.commit([entry()], DAY)
    retention.backup(store.database, tmp_path / "backup.db")
    (tmp_path / "audit-log.db").rename(tmp_path / "old.db")
    with pytest.raises(InputError, match=r"audit-log\.db-wal.*moved away together"):
        retention.restore(store.database, tmp_path / "backup.db")
    store.database.close()


def test_an_incomplete_backup_is_not_restored(tmp_path: Path) -> None:
    target = Database(read_url(f"sqlite:///{tmp_path / 'audit-log.db'}"))
    foreign, broken = tmp_path / "foreign.db", tmp_path / "broken.db"
    with sqlite3.connect(foreign) as other:
        other.execute("CREATE TABLE results (a)")
    broken.write_bytes(b"SQLite format 3\0" + bytes(4000))
    for path in (foreign, broken):
        with pytest.raises(BrokenBackup):
            retention.restore(target, path)
    with pytest.raises(InputError, match="must be a backup"):
        retention.restore(target, tmp_path / "none.db")
    with pytest.raises(InputError, match="there is none yet"):
        retention.backup(target, tmp_path / "copy.db")
    assert not (tmp_path / "audit-log.db").exists()


@pytest.mark.parametrize(("step", "instead"), [(retention.backup, "pg_dump"), (retention.restore, "pg_restore")])
def test_postgresql_has_its_own_tools(tmp_path: Path, step: object, instead: str) -> None:
    assert callable(step)
    with pytest.raises(InputError, match=f"got 'postgresql', must be an SQLite audit log: PostgreSQL has {instead}"):
        step(Database(read_url("postgresql://u:p@127.0.0.1:9/record")), tmp_path / "file")
