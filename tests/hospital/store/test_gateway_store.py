"""The store over the life of processes: one gateway at a time, nothing acknowledged lost, nothing kept too long."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from consilium.databases.database import read_url
from consilium.domain.errors import InputError
from hospital.store.claims import Claim, ClaimStage
from hospital.store.gateway_store import Store, StoreLocation, StoreTaken, refuse_other_key
from hospital.store.keys import open_key
from hospital.store.prior_searches import PriorSearch
from hospital.store.received import PatientId
from hospital.store.retention import Purged, purge
from hospital.store.rows.store_key import SEALED, sealed_rows
from hospital.store.state import Delivery, Revision, StudyStage, StudyState
from tests.hospital.clock import START, SetClock
from tests.hospital.received_samples import ACCESSION, PATIENT, STUDY, instance, merge, observation, raw

RECEIVER = """
import sys
import threading
from dataclasses import replace
from pathlib import Path
from consilium.databases.database import read_url
from hospital.store.gateway_store import Store, StoreLocation
from tests.hospital.received_samples import instance

folder = Path(sys.argv[1])
store = Store(StoreLocation(read_url(f"sqlite:///{folder / 'gateway.db'}", "url"), folder, folder / "key", 1))
store.take()
number = 0
while True:
    number += 1
    with store.files.writer() as writer:
        for _ in range(8):
            writer.write(bytes([number % 256]) * 100_000)
        file = writer.commit()
    store.inbox.add(instance(number, content=str(number), file=file))
    print(number, flush=True)
"""


@pytest.fixture
def own(tmp_path: Path) -> StoreLocation:
    folder = tmp_path / "store"
    return StoreLocation(read_url(f"sqlite:///{folder / 'gateway.db'}", "url"), folder, folder / "key", 1)


@pytest.mark.parametrize("acknowledged", [1, 7, 20])
def test_a_receiver_that_is_killed_loses_nothing_acknowledged_and_leaves_nothing_half(
    own: StoreLocation, acknowledged: int
) -> None:
    command = [sys.executable, "-c", RECEIVER, str(own.folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as receiver:
        assert receiver.stdout is not None
        for line in receiver.stdout:
            if int(line) >= acknowledged:
                os.kill(receiver.pid, signal.SIGKILL)
                break
        known = acknowledged + len(receiver.stdout.readlines())

    store = Store(own)
    store.take()
    found = store.records.instances(STUDY)

    assert known <= len(found) <= known + 1  # the last one may be stored without its sender knowing
    for number, one in enumerate(found, 1):
        assert one.file is not None
        assert store.files.read(one.file) == bytes([number % 256]) * 800_000
    assert sorted(store.files.names()) == sorted(str(one.file) for one in found)
    assert [path.name for path in (own.folder / "files" / "incoming").iterdir()] == []
    store.close()


def test_what_a_killed_process_left_is_removed_and_what_it_acknowledged_stays(own: StoreLocation) -> None:
    before = Store(own)
    before.take()
    named, unnamed = before.files.write(b"named"), before.files.write(b"unnamed")
    before.inbox.add(instance(file=named))
    before.files.writer().write(b"half")
    before.close()

    store = Store(own)
    store.take()

    assert list(store.files.names()) == [named]
    assert list((own.folder / "files" / "incoming").iterdir()) == []
    assert unnamed != named
    store.close()


def test_a_second_gateway_on_the_same_store_is_refused_and_changes_nothing(own: StoreLocation) -> None:
    first = Store(own)
    first.take()
    writing = first.files.writer()
    code = (
        "import sys; from pathlib import Path; from consilium.databases.database import read_url\n"
        "from hospital.store.gateway_store import Store, StoreLocation\n"
        "folder = Path(sys.argv[1])\n"
        "url = read_url(f\"sqlite:///{folder / 'gateway.db'}\", 'url')\n"
        "Store(StoreLocation(url, folder, folder / 'key', 1)).take()"
    )
    ended = subprocess.run([sys.executable, "-c", code, str(own.folder)], capture_output=True, text=True, check=False)

    assert StoreTaken.__name__ in ended.stderr
    assert "another gateway runs on this store" in ended.stderr
    writing.write(b"whole")
    assert first.files.read(writing.commit()) == b"whole"
    first.close()
    again = Store(own)
    again.take()
    again.close()


def test_a_store_that_one_thread_took_is_given_back_by_another(own: StoreLocation) -> None:
    store = Store(own)
    taking = threading.Thread(target=store.take)
    taking.start()
    taking.join()
    store.close()

    again = Store(own)
    again.take()
    again.close()


def test_a_command_beside_a_gateway_that_was_started_anew_takes_no_commit_away(own: StoreLocation) -> None:
    before = Store(own)
    before.take()
    before.positions.set("p", "0")
    before.close()
    gateway = Store(own)
    gateway.take()

    for written in ("1", "2", "3"):
        gateway.positions.set("p", written)
        looked = (
            "import sqlite3, sys; one = sqlite3.connect(sys.argv[1]); "
            "print(one.execute(sys.argv[2]).fetchone()[0]); one.close()"
        )
        query = "SELECT value FROM positions WHERE name = 'p'"
        # Ending, it is the last to leave the database, unless the gateway's connections hold it.
        done = subprocess.run(
            [sys.executable, "-c", looked, str(own.url.database), query], capture_output=True, text=True, check=True
        )
        assert done.stdout.strip() == written
    gateway.close()


def test_files_on_the_way_are_left_while_the_gateway_runs(store: Store, clock: SetClock) -> None:
    clock.now = clock.now.fromtimestamp(store.location.folder.stat().st_mtime, clock.now.tzinfo)
    file = store.files.write(b"its row is on the way")

    assert store.remove_unnamed() == 0
    clock.move(hours=2)
    assert store.remove_unnamed() == 1
    assert list(store.files.names()) == []
    assert file


def test_retention_deletes_what_is_old_with_its_files_and_keeps_what_has_work_to_do(
    store: Store, clock: SetClock
) -> None:
    old, other = store.files.write(b"old"), store.files.write(b"other")
    store.inbox.add(instance(file=old), observation(), merge("a", "b"), raw=raw())
    store.inbox.add(instance(2, study="1.9", file=other))
    store.records.mark_handled([stored.number for stored in store.records.unhandled()])
    answered = StudyState(STUDY, PATIENT, ACCESSION, StudyStage.ANSWERED, START, START, revision="r1")
    revision = Revision("r1", STUDY, 1, START, {}, b"{}")
    deliveries = [Delivery(key, "pacs", "sr", b"SR", STUDY, "r1") for key in ("sent", "waits")]
    store.studies.answer(answered, revision, deliveries)
    store.outbox.sent(1)
    store.studies.save(replace(answered, study="1.9", stage=StudyStage.ASSEMBLING, revision=None))
    search = PriorSearch(STUDY, "chest", "main", "chest", (PATIENT,), START, START, None)
    store.priors.begin(search)
    store.priors.begin(replace(search, study="1.8", due=START))
    clock.move(days=10)
    store.inbox.add(observation(key="new"))

    purged = purge(store, timedelta(days=7))

    # The instance and the merge of the old study, its value and its message; what is assembled and waits stays.
    assert purged == Purged(records=3, messages=1, studies=1, revisions=1, deliveries=1, claims=0, prior_searches=1)
    assert list(store.files.names()) == [other]
    assert [one.key for one in store.records.observations([PATIENT])] == ["new"]
    assert store.studies.get(STUDY) is None
    assert [one.delivery.key for one in store.outbox.listed()] == ["waits"]
    assert (store.priors.get(STUDY), store.priors.next()) == (None, replace(search, study="1.8", due=START))
    assert len(store.patients.same(PatientId("b", "i"))) == 2
    assert purge(store, timedelta(days=7)) == Purged(0, 0, 0, 0, 0, 0, 0)


def test_a_key_that_is_lost_or_another_one_is_refused_and_not_replaced_once_there_are_rows(
    store: Store, location: StoreLocation
) -> None:
    kept = location.key_file.read_bytes()
    location.key_file.unlink()
    refuse_other_key(location)  # nothing was sealed yet: a key may be made
    location.key_file.write_bytes(kept)
    location.key_file.chmod(0o600)
    store.inbox.add(instance())

    location.key_file.unlink()
    for opening in (Store, refuse_other_key):
        with pytest.raises(InputError, match="has rows: nothing there can be read without it") as lost:
            opening(location)
        assert (lost.value.field, lost.value.value) == ("store.key_file", str(location.key_file))
        assert not location.key_file.exists()
    open_key(location.key_file)
    other = location.key_file.read_bytes()
    for opening in (Store, refuse_other_key):
        with pytest.raises(InputError, match=r"must be the key that sealed the rows of .*: it is another one"):
            opening(location)
    assert location.key_file.read_bytes() == other
    location.key_file.write_bytes(kept)
    refuse_other_key(location)
    again = Store(location)
    assert len(again.records.instances(STUDY)) == 1
    again.close()


def test_a_row_of_every_table_tells_its_key(store: Store) -> None:
    store.inbox.add(instance(), merge("a", "b"), raw=raw())
    answered = StudyState(STUDY, PATIENT, ACCESSION, StudyStage.ANSWERED, START, START, revision="r1")
    store.studies.answer(answered, Revision("r1", STUDY, 1, START, {}, b"{}"), [Delivery("k", "pacs", "sr", b"SR")])
    store.claims.save(Claim("list", "1.2.3", "1.2.4", ClaimStage.CLAIMING, START, START))
    store.priors.begin(PriorSearch(STUDY, "chest", "main", "chest", (PATIENT,), START, START, None))

    rows = sealed_rows(store.database)

    assert len(rows) == len(SEALED)
    assert all(store.key.unseal(body, place) for body, place in rows)


def test_positions_survive(store: Store) -> None:
    assert store.positions.get("fhir:epic") is None
    store.positions.set("fhir:epic", "2026-03-02T08:00:00Z")
    store.positions.set("fhir:epic", "2026-03-02T09:00:00Z")

    assert store.positions.get("fhir:epic") == "2026-03-02T09:00:00Z"
