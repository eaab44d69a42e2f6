"""Merges of patient identifiers: followed to the one that stays, never in a circle, never by guess."""

from __future__ import annotations

from datetime import timedelta

import pytest

from hospital.store.gateway_store import Store
from hospital.store.received import PatientId
from tests.hospital.clock import START
from tests.hospital.received_samples import merge, raw


def same(store: Store, value: str) -> list[str]:
    return [patient.value for patient in store.patients.same(PatientId(value, "i"))]


def test_an_identifier_that_was_never_merged_stands_alone(store: Store) -> None:
    store.inbox.add(merge("a", "b"))

    assert same(store, "c") == ["c"]
    assert store.patients.same(PatientId("b", "other issuer")) == (PatientId("b", "other issuer"),)


def test_every_identifier_of_a_chain_names_the_same_person_the_one_that_stays_first(store: Store) -> None:
    for stays, goes in (("b", "a"), ("c", "b"), ("c", "d")):
        store.inbox.add(merge(stays, goes))

    for value in "abcd":
        first, *others = same(store, value)
        assert first == "c"
        assert sorted(others) == ["a", "b", "d"]


@pytest.mark.parametrize("circle", [[("a", "b"), ("b", "a")], [("a", "b"), ("b", "c"), ("c", "a")], [("a", "a")]])
def test_a_merge_that_would_close_a_circle_is_refused_and_listed(store: Store, circle: list[tuple[str, str]]) -> None:
    for number, (stays, goes) in enumerate(circle):
        store.inbox.add(merge(stays, goes, time=START + timedelta(minutes=number)), raw=raw(f"message {number}"))

    (listed,) = store.records.messages(with_problem=True)
    assert listed.message.problem == "this merge and earlier ones would make a circle of identifiers"
    assert same(store, "a")[0] == "a"


def test_a_chain_has_a_limit(store: Store) -> None:
    for number in range(17):
        store.inbox.add(merge(f"{number + 1}", f"{number}"), raw=raw(f"message {number}"))

    (listed,) = store.records.messages(with_problem=True)
    assert listed.message.problem == "this merge would make a chain of more than 16 identifiers"
    assert same(store, "0")[0] == "16"
    assert len(same(store, "16")) == 17


def test_a_later_merge_of_the_same_identifier_counts(store: Store) -> None:
    store.inbox.add(merge("right", "a", time=START + timedelta(minutes=1)))
    store.inbox.add(merge("wrong", "a"))

    assert same(store, "a") == ["right", "a"]
    assert same(store, "wrong") == ["wrong"]
