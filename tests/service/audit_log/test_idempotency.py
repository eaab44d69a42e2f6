from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from service.audit_log import idempotency as claims
from service.audit_log.database import Database, read_url
from service.audit_log.entries import Claim, Origin
from service.audit_log.idempotency import IdempotencyMismatch, InFlight
from service.audit_log.pseudonyms import add_key
from service.audit_log.store import NoSuchResult, Store
from service.audit_log.tables import ClaimRow
from tests.service.audit_log.samples import entry

DAY = 86_400.0


def claim(store: Store, key: str = "k", body: tuple[bytes, ...] = (b"body",), **more: Any) -> Claim | bytes:
    asked: dict[str, Any] = {"caller": "key:a", "lease_s": 60.0} | more
    return claims.claim(store.database, store.keys, asked["caller"], key, body, asked["lease_s"])


def claimed(store: Store, **more: Any) -> Claim:
    given = claim(store, **more)
    assert isinstance(given, Claim)
    return given


def answered(store: Store, given: Claim, replay_s: float = DAY, **more: Any) -> list[InFlight | None]:
    return store.commit([entry(claim=given, time=datetime.now(UTC), **more)], replay_s)


def rows(store: Store) -> int:
    with store.database.reading() as session:
        return session.scalar(select(func.count()).select_from(ClaimRow)) or 0


def test_an_answered_key_gives_its_answer_back(store: Store) -> None:
    assert answered(store, claimed(store), body=b"\x00answer") == [None]
    assert claim(store) == b"\x00answer"


def test_a_key_in_flight_belongs_to_one_request(store: Store) -> None:
    claimed(store)
    with pytest.raises(InFlight):
        claim(store)


@pytest.mark.parametrize("body", [(b"other",), (b"body", b""), (b"bo", b"dy"), ()])
def test_another_body_is_refused_both_in_flight_and_answered(store: Store, body: tuple[bytes, ...]) -> None:
    given = claimed(store)
    with pytest.raises(IdempotencyMismatch):
        claim(store, body=body)
    answered(store, given)
    with pytest.raises(IdempotencyMismatch):
        claim(store, body=body)


def test_a_key_is_its_callers_own(store: Store) -> None:
    answered(store, claimed(store))
    assert isinstance(claim(store, caller="key:b", body=(b"other",)), Claim)
    assert isinstance(claim(store, key="k2", body=(b"other",)), Claim)


def test_a_claim_given_back_can_be_taken_at_once(store: Store) -> None:
    claims.release(store.database, claimed(store))
    assert isinstance(claim(store, body=(b"other",)), Claim)


def test_an_answer_is_not_given_back(store: Store) -> None:
    given = claimed(store)
    answered(store, given, body=b"answer")
    claims.release(store.database, given)
    assert claim(store) == b"answer"


def test_the_claim_of_a_crashed_process_ends_with_its_lease(store: Store) -> None:
    crashed = claimed(store, lease_s=-1.0)
    taken = claimed(store, body=(b"other",))
    assert taken.owner != crashed.owner

    # It was not dead, only late: its answer must not stand beside the other's.
    late = entry(claim=crashed)
    other = entry()
    (lost, kept) = store.commit([late, other], DAY)
    assert isinstance(lost, InFlight)
    assert kept is None
    with pytest.raises(NoSuchResult):
        store.result(late.result_id)
    assert store.result(other.result_id)
    assert answered(store, taken, body=b"the other's") == [None]
    assert claim(store, body=(b"other",)) == b"the other's"


def test_an_answer_is_replayed_until_its_time_is_over(store: Store) -> None:
    answered(store, claimed(store), replay_s=-1.0)
    assert isinstance(claim(store, body=(b"other",)), Claim)


def test_what_expired_is_deleted_and_nothing_else(store: Store) -> None:
    answered(store, claimed(store, key="answered, over"), replay_s=-1.0)
    claimed(store, key="crashed", lease_s=-1.0)
    answered(store, claimed(store, key="answered"))
    claimed(store, key="in flight")
    assert claims.expire(store.database) == 2
    assert rows(store) == 2
    assert claims.expire(store.database) == 0


def test_after_rotation_a_replay_is_still_found(url: str, store: Store, key_file: Path) -> None:
    answered(store, claimed(store), body=b"answer")
    in_flight = claimed(store, key="in flight")
    rotated = Store(Database(read_url(url)), add_key(key_file))
    assert claim(rotated) == b"answer"
    with pytest.raises(IdempotencyMismatch):
        claim(rotated, body=(b"other",))
    with pytest.raises(InFlight):
        claim(rotated, key="in flight")
    answered(rotated, in_flight, body=b"later")
    assert claim(store, key="in flight") == claim(rotated, key="in flight") == b"later"
    rotated.database.close()


def test_neither_key_nor_body_nor_answer_can_be_read_in_the_row(store: Store) -> None:
    given = claimed(store, key="Jane-Roe")
    answered(store, given, body=b"about Jane Roe", origin=Origin("key:a", "r", "Jane-Roe"))
    with store.database.reading() as session:
        row = session.scalars(select(ClaimRow)).one()
        assert row.answer is not None
        text = f"{row.key} {row.body}".encode() + row.answer
    assert b"Jane" not in text
    assert b"Roe" not in text
