"""The inbox: everything or nothing, nothing twice, nothing readable on the disk."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import text

from hospital.store.gateway_store import Store, StoreLocation
from hospital.store.inbox import Watermark
from hospital.store.received import (
    Accession,
    PatientId,
    Received,
    RecordsMoved,
    Status,
    StoreFull,
    StoreUnavailable,
)
from hospital.store.rows.database import StoreTooNew
from hospital.store.rows.tables import Base
from hospital.studies.rules.current_records import current_notes, current_observations
from tests.hospital.clock import START, SetClock
from tests.hospital.received_samples import (
    ACCESSION,
    PATIENT,
    STUDY,
    instance,
    merge,
    note,
    observation,
    order,
    raw,
    rejection,
    step,
    update,
)

EACH = [instance(), observation(), note(), order(), update(), merge("1", "2"), rejection(), step()]
LATER = START + timedelta(minutes=5)


def records(store: Store) -> list[Received]:
    return [stored.record for stored in store.records.unhandled()]


def test_the_migrations_make_the_tables_that_the_code_knows(store: Store) -> None:
    with store.database.reading() as session:
        assert compare_metadata(MigrationContext.configure(session.connection()), Base.metadata) == []


def test_a_store_of_a_later_version_is_refused(location: StoreLocation, store: Store) -> None:
    with store.database.writing() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(StoreTooNew, match=r"store\.url: .*must be a gateway's store of this version or an earlier one"):
        Store(location).database.open()


def test_everything_that_was_added_is_read_as_it_was(store: Store) -> None:
    assert store.inbox.add(*EACH)

    assert records(store) == EACH
    assert store.arrived.is_set()


@pytest.mark.parametrize("record", EACH, ids=lambda record: type(record).__name__)
def test_the_same_record_again_is_passed_over(store: Store, record: Received) -> None:
    assert store.inbox.add(record)
    store.arrived.clear()

    assert not store.inbox.add(record)
    assert records(store) == [record]
    assert not store.arrived.is_set()


def test_a_message_that_is_repeated_adds_nothing_even_with_other_records(store: Store) -> None:
    assert store.inbox.add(observation(), raw=raw())

    assert not store.inbox.add(observation(key="other"), raw=raw())
    assert records(store) == [observation()]
    assert store.inbox.add(observation(key="other"), raw=raw("another key"))


def test_a_message_without_records_is_kept_with_its_problem(store: Store) -> None:
    message = raw(content="MSH|Müller".encode("latin-1"), problem="PID is missing")
    assert store.inbox.add(raw=message)

    (found,) = store.records.messages(with_problem=True)
    assert (found.message.content, found.message.problem) == (message.content, "PID is missing")
    assert store.records.message(found.number) == found
    assert store.records.message(found.number + 1) is None


def test_either_all_records_of_a_message_are_stored_or_none(store: Store) -> None:
    broken = replace(observation(), source="x" * 10, key="\ud800")  # which no database takes

    with pytest.raises(ValueError, match="surrogates"):
        store.inbox.add(note(), broken, raw=raw())
    assert records(store) == []
    assert store.inbox.add(note(), raw=raw())


def test_the_latest_version_of_a_value_counts_in_whatever_order_they_come(store: Store) -> None:
    final = observation(version="1")
    corrected = observation(version="2", status=Status.CORRECTED, value=11.2, issued=LATER)
    store.inbox.add(corrected)
    store.inbox.add(final)

    assert store.records.observations([PATIENT]) == [corrected]


def test_a_value_that_was_taken_back_is_read_as_withdrawn(store: Store) -> None:
    withdrawn = observation(version="2", status=Status.WITHDRAWN, value=None, issued=LATER)
    store.inbox.add(observation())
    store.inbox.add(withdrawn)

    assert store.records.observations([PATIENT]) == [withdrawn]


def test_a_preliminary_version_hides_no_final_one_that_came_before(store: Store) -> None:
    final = observation()
    preliminary = observation(version="2", status=Status.PRELIMINARY, value=7.0, issued=LATER)
    store.inbox.add(final, note())
    store.inbox.add(preliminary, note(version="2", status=Status.PRELIMINARY, text="", issued=LATER))

    assert store.records.observations([PATIENT]) == [final, preliminary]
    assert current_observations(store.records.observations([PATIENT])) == [final]
    assert current_notes(store.records.notes([PATIENT])) == [note()]
    corrected = observation(version="3", status=Status.CORRECTED, issued=LATER + timedelta(hours=1))
    store.inbox.add(corrected)
    assert store.records.observations([PATIENT]) == [corrected]


def test_the_beginning_of_a_procedure_step_is_found_by_its_uid(store: Store) -> None:
    store.inbox.add(step(state="in progress", instances=()))
    assert store.records.step("1.9.1") == step(state="in progress", instances=())
    store.inbox.add(step())
    assert store.records.step("1.9.1") == step()
    assert store.records.step("1.9.2") is None


def test_records_of_another_issuer_with_the_same_id_are_not_found(store: Store) -> None:
    stranger = PatientId(PATIENT.value, "9.9.9")
    store.inbox.add(
        observation(), observation(key="b", patient=stranger), observation(key="c", patient=PatientId(PATIENT.value))
    )

    assert [one.key for one in store.records.observations([PATIENT])] == ["F77|CRP"]
    assert [one.key for one in store.records.observations([stranger, PatientId("else", "9.9.9")])] == ["b"]
    assert store.records.observations([]) == []


def test_an_order_is_found_by_study_accession_or_patient(store: Store) -> None:
    store.inbox.add(order())

    assert store.records.orders(study=STUDY) == [order()]
    assert store.records.orders(accession=ACCESSION) == [order()]
    assert store.records.orders(patients=[PATIENT]) == [order()]
    assert store.records.orders(accession=replace(ACCESSION, issuer=None)) == []
    assert store.records.orders() == []


def test_a_later_order_takes_the_place_of_the_one_before(store: Store) -> None:
    store.inbox.add(order(time=LATER, cancelled=True))
    store.inbox.add(order(reason="other"))

    assert store.records.orders(study=STUDY) == [order(time=LATER, cancelled=True)]


def test_orders_without_a_number_are_told_apart_by_what_they_are_for(store: Store) -> None:
    one = order(placer=None, filler=None)
    other = replace(one, patient=PatientId("MRN-1", "hospital-a"), accession=Accession("A-2", "ris"))
    for given in (one, other):
        store.inbox.add(given)
    assert store.records.orders(patients=[PATIENT]) == [one]
    assert not [stored for stored in store.records.unhandled() if isinstance(stored.record, RecordsMoved)]


def test_what_a_study_has_is_read_by_its_uid(store: Store) -> None:
    store.inbox.add(*EACH, instance(2, study="1.9"))

    assert store.records.instances(STUDY) == [instance()]
    assert store.records.rejections(STUDY) == [rejection()]
    assert store.records.steps(STUDY) == [step()]
    assert store.records.notes([PATIENT]) == [note()]
    assert store.records.updates([PATIENT]) == [update()]


def test_the_file_of_an_instance_that_came_before_is_removed(store: Store) -> None:
    first, again, changed = (store.files.write(content) for content in (b"a", b"a", b"b"))
    store.inbox.add(instance(file=first))

    assert not store.inbox.add(instance(file=again, received=LATER))
    assert store.inbox.add(instance(content="other pixels", file=changed, received=LATER))

    assert sorted(store.files.names()) == sorted([first, changed])
    assert [one.file for one in store.records.instances(STUDY)] == [changed]


def test_a_call_that_is_repeated_does_not_lose_the_file(store: Store) -> None:
    file = store.files.write(b"a")
    store.inbox.add(instance(file=file))

    assert not store.inbox.add(instance(file=file))
    assert store.files.read(file) == b"a"


def test_a_prior_that_is_later_sent_as_a_study_of_its_own_is_new(store: Store) -> None:
    assert store.inbox.add(instance(requested=True))
    assert store.inbox.add(instance(requested=False, received=LATER))
    assert not store.inbox.add(instance(requested=True, received=LATER))

    assert [one.requested for one in store.records.instances(STUDY)] == [False]


def test_a_disk_beyond_its_watermark_takes_nothing_and_says_so(store: Store, tmp_path: Path) -> None:
    free = 10

    class Usage:
        @property
        def free(self) -> int:
            return free

    store.inbox._watermark = Watermark(tmp_path, 100, lambda _: Usage())
    file = store.files.write(b"a")

    assert not store.inbox.has_room
    with pytest.raises(StoreFull):
        store.inbox.add(instance(file=file), raw=raw())
    assert records(store) == []
    assert list(store.files.names()) == []

    free = 100
    assert store.inbox.has_room
    assert store.inbox.add(instance(), raw=raw())


@pytest.mark.parametrize("location", ["sqlite"], indirect=True)
def test_a_database_that_is_not_there_is_named_without_what_was_to_be_stored(
    location: StoreLocation, clock: SetClock
) -> None:
    gone = location.folder / "no database"
    broken = Store(replace(location, url=location.url.set(drivername="sqlite", database=str(gone))), clock)
    gone.mkdir()

    with pytest.raises(StoreUnavailable, match="gateway's store: ") as caught:
        broken.inbox.add(instance())
    assert PATIENT.value not in str(caught.value)


def test_several_threads_lose_nothing(store: Store) -> None:
    def send(worker: int) -> None:
        for number in range(10):
            store.inbox.add(observation(key=f"{worker}-{number}"), observation(key=f"shared-{number}"))

    threads = [threading.Thread(target=send, args=(worker,)) for worker in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(store.records.observations([PATIENT])) == 50


@pytest.mark.parametrize("location", ["sqlite"], indirect=True)
def test_nothing_of_a_patient_is_readable_on_the_disk(store: Store, location: StoreLocation) -> None:
    store.files.write(b"MRN-4711")
    store.inbox.add(*EACH, raw=raw(content=b"PID|MRN-4711"))
    store.database.close()

    written = b"".join(path.read_bytes() for path in location.folder.rglob("*") if path.is_file())
    assert b"lis" in written  # the source of a message is in clear
    born = ("1960-04-01", "19600401")
    for secret in ("MRN-4711", "A-1001", "Kaltm", "Husten", "Fieber", "1988-5", "112.0", *born, STUDY):
        assert secret.encode() not in written
