"""What the outbox was given, by key."""

from __future__ import annotations

from hospital.store.gateway_store import Store
from hospital.store.state import Delivery


def test_what_was_put_in_is_known_by_its_key_and_of_its_study(store: Store) -> None:
    deliveries = [Delivery("1.2.3", "pacs", "sr", b"x", study="1.9"), Delivery("4", "ris", "oru", b"y", study="1.9")]
    store.outbox.put(deliveries)
    assert store.outbox.holds("1.2.3", ["archive", "pacs"])
    assert not store.outbox.holds("1.2.3", ["ris"])
    assert not store.outbox.holds("1.2", ["pacs"])
    assert store.outbox.keys("1.9") == {"1.2.3", "4"}
    assert store.outbox.keys("1.8") == frozenset()
