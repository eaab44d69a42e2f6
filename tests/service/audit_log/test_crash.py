"""Nothing that was acknowledged is lost, whenever the process that recorded it is killed."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import text

from service.audit_log import idempotency as claims
from service.audit_log.database import Database, read_url
from service.audit_log.pseudonyms import AuditLogKeys
from service.audit_log.store import OfModel, Store
from tests.conftest import ROOT
from tests.service.audit_log.samples import entry

WRITER = """
import sys
from pathlib import Path
from service.audit_log import idempotency as claims
from service.audit_log.database import Database, read_url
from service.audit_log.pseudonyms import read_keys
from service.audit_log.store import Store
from tests.service.audit_log.samples import NOW, entry

store = Store(Database(read_url(sys.argv[1]), timeout_s=30), read_keys(Path(sys.argv[2])))
for number in range(100_000):
    name = f"{sys.argv[3]}-{number}"
    claim = claims.claim(store.database, store.keys, "key:a", name, [b"body"], 60)
    batch = [entry(claim=claim, body=name.encode(), time=NOW.replace(year=2999)), entry(), entry()]
    assert store.commit(batch, 60) == [None, None, None]
    print(name, *(one.result_id.hex for one in batch), flush=True)
"""


def writer(url: str, key_file: Path, name: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", WRITER, url, str(key_file), name]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)


@pytest.mark.parametrize("acknowledged", [17])
def test_what_was_acknowledged_before_a_kill_is_there(
    url: str, key_file: Path, keys: AuditLogKeys, acknowledged: int
) -> None:
    """Two processes write to one record; both are killed after so many batches of one of them, amid the next one."""
    Database(read_url(url)).open()
    writers = [writer(url, key_file, name) for name in ("one", "two")]
    first = writers[0].stdout
    assert first is not None
    acknowledged_lines = [first.readline() for _ in range(acknowledged)]
    for one in writers:
        one.send_signal(signal.SIGKILL)
    # What stood in the pipe was acknowledged, too; a line that was cut off was not.
    acknowledged_lines += [line for one in writers for line in one.communicate()[0].splitlines(keepends=True)]
    batches = [line.decode().split() for line in acknowledged_lines if line.endswith(b"\n")]
    assert len(batches) >= acknowledged

    store = Store(Database(read_url(url)), keys)
    kept = {one.result_id for one in store.recall(OfModel("consilium-fake"))}
    for name, *ids in batches:
        assert {UUID(hex=one) for one in ids} <= kept
        assert claims.claim(store.database, keys, "key:a", name, [b"body"], 60) == name.encode()
    assert len(kept) % 3 == 0, "a batch is there whole or not at all"
    assert store.commit([entry()], 60) == [None]
    if store.database.path is not None:
        with store.database.reading() as session:
            assert session.execute(text("PRAGMA integrity_check")).scalar() == "ok"
    store.database.close()
