from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import text

from consilium.domain.errors import InputError
from service.audit_log.database import AuditLogTooNew, AuditLogUnavailable, Database, read_url, refuse_unusable
from service.audit_log.pseudonyms import AuditLogKeys
from service.audit_log.store import Store
from service.audit_log.tables import Base, FeedbackRow
from tests.patience import PATIENCE_S
from tests.postgres import Cluster
from tests.service.audit_log.samples import NOW, entry

DAY = 86_400.0


def test_the_migrations_make_the_tables_that_the_code_knows(store: Store) -> None:
    with store.database.reading() as session:
        assert compare_metadata(MigrationContext.configure(session.connection()), Base.metadata) == []


def test_a_migrated_audit_log_is_unchanged_when_opened_again(url: str, store: Store) -> None:
    given = entry()
    store.commit([given], DAY)
    again = Store(Database(read_url(url)), store.keys)
    assert again.result(given.result_id) == store.result(given.result_id)
    again.database.close()


def test_postgresql_without_its_driver_is_refused_with_the_extra_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(InputError, match=r"pip install 'consilium\[postgresql\]' \(LGPL-3\.0\)") as caught:
        read_url("postgresql://consilium:secret@db/audit")
    assert "secret" not in str(caught.value)
    assert read_url("sqlite:////var/lib/audit.db").database == "/var/lib/audit.db"


def test_an_audit_log_of_a_later_version_is_refused(url: str, store: Store) -> None:
    store.database.open()
    with store.database.writing() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    later = Database(read_url(url))
    with pytest.raises(AuditLogTooNew, match=r"CONSILIUM_AUDIT_LOG_URL.*of this version or an earlier one") as caught:
        later.open()
    assert read_url(url).password is None or str(read_url(url).password) not in str(caught.value)
    later.close()


def test_threads_that_open_several_databases_each_migrate_their_own(tmp_path: Path) -> None:
    databases = [Database(read_url(f"sqlite:///{tmp_path}/{number}.db")) for number in range(4)]
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(len(databases)) as pool:
            list(pool.map(Database.open, databases))
    finally:
        sys.setswitchinterval(before)
    for database in databases:
        with database.reading() as session:
            assert compare_metadata(MigrationContext.configure(session.connection()), Base.metadata) == []
        database.close()


def test_processes_that_start_together_make_one_audit_log(url: str, tmp_path: Path) -> None:
    code = (
        "import sys; from service.audit_log.database import Database, read_url\n"
        "print('ready', flush=True); sys.stdin.readline()\n"
        "Database(read_url(sys.argv[1])).open()"
    )
    children = [
        subprocess.Popen(
            [sys.executable, "-c", code, url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        for _ in range(3)
    ]
    for child in children:
        assert child.stdout is not None
        child.stdout.readline()
    for child in children:
        assert child.communicate(b"\n", timeout=PATIENCE_S)[1] == b""
    assert [child.returncode for child in children] == [0, 0, 0]


def test_feedback_of_no_answer_and_unknown_states_are_refused_by_the_database(store: Store) -> None:
    given = entry()
    store.commit([given], DAY)
    for result_id, state in ((entry().result_id, "present"), (given.result_id, "Jane Roe")):
        row = FeedbackRow(
            feedback_id=entry().result_id, finding="a", result_id=result_id, state=state, time=NOW, caller="c"
        )
        with pytest.raises(Exception, match=r"(?i)constraint"), store.database.writing() as session:
            session.add(row)
    assert store.result(given.result_id).feedback == ()


def test_sqlite_commits_reach_the_disk(tmp_path: Path) -> None:
    database = Database(read_url(f"sqlite:///{tmp_path / 'home' / 'audit-log.db'}"))
    with database.writing() as session:
        stored = {
            name: session.execute(text(f"PRAGMA {name}")).scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys", "secure_delete")
        }
    assert stored == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "secure_delete": 1}
    for path in (tmp_path / "home").glob("audit-log.db*"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    database.close()


def test_postgresql_commits_reach_the_disk_whatever_the_database_says(cluster: Cluster) -> None:
    database = Database(read_url(cluster.new_database()))
    with database.writing() as session:
        name = session.execute(text("SELECT current_database()")).scalar()
        session.execute(text(f"ALTER DATABASE {name} SET synchronous_commit = off"))
    database.close()
    with database.reading() as session:
        assert session.execute(text("SHOW synchronous_commit")).scalar() == "on"
        assert session.execute(text("SHOW lock_timeout")).scalar() == "5s"
    database.close()


def test_a_locked_file_is_waited_for_and_then_reported(tmp_path: Path, keys: AuditLogKeys) -> None:
    path = tmp_path / "audit-log.db"
    store = Store(Database(read_url(f"sqlite:///{path}"), timeout_s=0.2), keys)
    store.commit([entry()], DAY)
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(AuditLogUnavailable, match="OperationalError: database is locked"):
        store.commit([entry()], DAY)
    holder.execute("ROLLBACK")
    assert store.commit([entry()], DAY) == [None]
    holder.close()
    store.database.close()


def test_a_file_that_was_moved_away_is_not_written_to_any_more(tmp_path: Path, keys: AuditLogKeys) -> None:
    path = tmp_path / "audit-log.db"
    store = Store(Database(read_url(f"sqlite:///{path}")), keys)
    before, after = entry(), entry()
    store.commit([before], DAY)
    for file in tmp_path.glob("audit-log.db*"):
        file.rename(file.with_name(f"old-{file.name}"))
    store.commit([after], DAY)
    with sqlite3.connect(path) as fresh:
        assert fresh.execute("SELECT result_id FROM results").fetchall() == [(after.result_id.hex,)]
    store.database.close()


def test_a_server_that_went_away_is_reported_and_found_again(cluster: Cluster, keys: AuditLogKeys) -> None:
    store = Store(Database(read_url(cluster.new_database()), timeout_s=2), keys)
    kept, refused, later = entry(), entry(), entry()
    store.commit([kept], DAY)
    cluster.stop()
    try:
        with pytest.raises(AuditLogUnavailable):
            store.commit([refused], DAY)
    finally:
        cluster.start()
    store.commit([later], DAY)
    assert store.result(kept.result_id)
    assert store.result(later.result_id)
    store.database.close()


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("nonsense", "no URL"),
        ("", "no URL"),
        ("sqlite://", "sqlite://"),
        ("sqlite:///:memory:", "sqlite:///%3Amemory%3A"),
        ("mysql://root:secret@db/record", r"mysql://root:\*\*\*@db/record"),
        ("postgresql+asyncpg://u:secret@db/record", r"postgresql\+asyncpg://u:\*\*\*@db/record"),
    ],
)
def test_other_databases_are_refused_without_their_password(url: str, shown: str) -> None:
    with pytest.raises(InputError, match=f"CONSILIUM_AUDIT_LOG_URL: got '{shown}'") as caught:
        read_url(url)
    assert "secret" not in str(caught.value)


def test_a_file_that_is_no_database_is_reported_and_left_as_it_is(tmp_path: Path) -> None:
    other = tmp_path / "studies.csv"
    other.write_text("study_id,patient_id\n" * 100)
    database = Database(read_url(f"sqlite:///{other}"))
    with pytest.raises(AuditLogUnavailable, match="audit log: DatabaseError: file is not a database"):
        database.open()
    database.close()
    assert other.read_text() == "study_id,patient_id\n" * 100


def test_a_folder_that_cannot_be_made_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(AuditLogUnavailable, match="audit log: "):
        Database(read_url(f"sqlite:///{tmp_path / 'file' / 'audit-log.db'}")).open()


def _table(place: Path) -> Path:
    (place / "studies.csv").write_text("study_id,patient_id\n" * 100)
    return place / "studies.csv"


def _pipe(place: Path) -> Path:
    os.mkfifo(place / "pipe")
    return place / "pipe"


@pytest.mark.parametrize(
    ("made", "rule"),
    [
        (_table, "must name an SQLite database, or a file that does not exist yet"),
        (_pipe, "must name a file"),
        (lambda place: place, "must name a file"),
        (lambda place: _table(place) / "audit-log.db", "must name a file that can be read (Not a directory)"),
    ],
    ids=["a table", "a pipe", "a folder", "below a file"],
)
def test_what_can_never_be_an_audit_log_is_refused_and_unchanged(
    tmp_path: Path, made: Callable[[Path], Path], rule: str
) -> None:
    url = f"sqlite:///{made(tmp_path)}"
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    with pytest.raises(InputError) as caught:
        refuse_unusable(read_url(url))
    assert (caught.value.field, caught.value.value, caught.value.rule) == ("CONSILIUM_AUDIT_LOG_URL", url, rule)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


@pytest.mark.parametrize("closed", ["audit-log.db", "."])
def test_an_audit_log_that_cannot_be_written_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, closed: str
) -> None:
    path = tmp_path / "audit-log.db"
    path.touch()
    # Nothing is closed to whoever runs the tests as root.
    monkeypatch.setattr("os.access", lambda asked, _: asked != tmp_path / closed)
    with pytest.raises(InputError, match=r"must name a file that can be written|must lie in a folder that can be"):
        refuse_unusable(read_url(f"sqlite:///{path}"))
    if closed == ".":
        with pytest.raises(InputError, match="must lie in a folder that can be written"):
            refuse_unusable(read_url(f"sqlite:///{tmp_path / 'new' / 'folder' / 'audit-log.db'}"))


def test_what_may_become_an_audit_log_is_not_refused(tmp_path: Path) -> None:
    for name in ("new/folder/audit-log.db", "empty.db", "locked.db"):
        path = tmp_path / name
        if name == "empty.db":
            path.touch()
        if name == "locked.db":
            holder = sqlite3.connect(path, isolation_level=None)
            holder.execute("CREATE TABLE other (id)")
            holder.execute("BEGIN EXCLUSIVE")
        refuse_unusable(read_url(f"sqlite:///{path}"))
    holder.close()
    assert not (tmp_path / "new").exists()
    refuse_unusable(read_url("postgresql://u:secret@nowhere.invalid/record"))


def test_a_database_that_is_checked_beside_its_connections_keeps_their_locks(tmp_path: Path) -> None:
    url = read_url(f"sqlite:///{tmp_path / 'audit-log.db'}")
    made = Database(url, 5.0)
    made.open()
    made.close()
    sessions, recorder = Database(url, 5.0), Database(url, 5.0)
    with sessions.reading():
        pass
    refuse_unusable(url)
    looked = "import sqlite3, sys; one = sqlite3.connect(sys.argv[1]); print(one.execute(sys.argv[2]).fetchone()[0])"
    for number in (1, 2):
        with recorder.transaction() as connection:
            connection.exec_driver_sql("CREATE TABLE IF NOT EXISTS noted (number)")
            connection.exec_driver_sql(f"INSERT INTO noted VALUES ({number})")
        # Ending, it would take the log away that the recorder writes to, were no connection known to hold it.
        command = [sys.executable, "-c", f"{looked}; one.close()", str(url.database), "SELECT max(number) FROM noted"]
        assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == str(number)
    sessions.close()
    recorder.close()
