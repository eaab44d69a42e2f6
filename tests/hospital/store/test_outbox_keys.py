"""What the outbox was given, by key."""

from __future__ import annotations

import pytest

from consilium.domain.errors import InputError
from hospital.store.gateway_store import Store
from hospital.store.state import Delivery, DeliveryStage


def test_what_was_put_in_is_known_by_its_key_and_of_its_study(store: Store) -> None:
    deliveries = [Delivery("1.2.3", "pacs", "sr", b"x", study="1.9"), Delivery("4", "ris", "oru", b"y", study="1.9")]
    store.outbox.put(deliveries)
    assert store.outbox.holds("1.2.3", ["archive", "pacs"])
    assert not store.outbox.holds("1.2.3", ["ris"])
    assert not store.outbox.holds("1.2", ["pacs"])
    assert store.outbox.keys("1.9") == {"1.2.3", "4"}
    assert store.outbox.keys("1.8") == frozenset()


def test_what_could_not_be_made_is_a_dead_letter_that_cannot_be_sent(store: Store) -> None:
    store.outbox.put([Delivery("r1", "record", "bundle", b"", study="1.9", revision="r1", problem="nobody's")])
    (found,) = store.outbox.unaddressed()
    assert (found.stage, found.problem, found.delivery.study, found.attempts) == (
        DeliveryStage.DEAD,
        "nobody's",
        "1.9",
        0,
    )
    assert store.outbox.next("record") is None
    with pytest.raises(InputError, match="must be a delivery with an addressee"):
        store.outbox.retry(found.number)
    store.outbox.drop(found.number)
    assert store.outbox.unaddressed() == []
