"""Searches for priors in the store: one at a time, sealed, and never set back by an older one."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from hospital.store.gateway_store import Store
from hospital.store.prior_searches import PriorSearch, ShownPrior
from hospital.store.received import PatientId
from tests.hospital.clock import START, SetClock
from tests.hospital.received_samples import PATIENT, STUDY

LATER = START + timedelta(minutes=5)
SEARCH = PriorSearch(STUDY, "chest", "main", "bone", (PATIENT,), START, START + timedelta(hours=1), START)
GROWN = replace(SEARCH, patients=(PATIENT, PatientId("17", PATIENT.issuer)))
FOUND: dict[str, Any] = {"handed": ("1.8",), "shown": (ShownPrior("main", "a"),)}


def test_a_search_is_due_at_its_time_the_one_that_waits_longest_first(store: Store, clock: SetClock) -> None:
    store.priors.begin(replace(SEARCH, due=LATER))
    store.priors.begin(replace(SEARCH, study="1.9", due=LATER - timedelta(minutes=1)))
    assert store.priors.next() is None
    clock.move(minutes=10)
    first = store.priors.next()
    assert first is not None
    assert first.study == "1.9"
    store.priors.save(first.ended())
    assert store.priors.next() == replace(SEARCH, due=LATER)


def test_what_an_older_search_found_does_not_set_back_one_that_was_begun_meanwhile(store: Store) -> None:
    store.priors.begin(SEARCH)
    store.priors.begin(GROWN)
    merged = replace(GROWN, round=1)
    assert store.priors.save(SEARCH.ended("gone")) == merged
    assert store.priors.get(STUDY) == merged
    store.priors.save(replace(merged, handed=("1.8",)))
    assert store.priors.get(STUDY) == replace(merged, handed=("1.8",))


def test_what_was_shown_stays_where_the_person_has_only_grown_and_is_taken_back_otherwise(store: Store) -> None:
    store.priors.begin(SEARCH)
    store.priors.save(replace(SEARCH, **FOUND, decoded=1, taken_back=(ShownPrior("old", "b"),)))
    store.priors.begin(GROWN)
    kept = replace(GROWN, **FOUND, decoded=1, taken_back=(ShownPrior("old", "b"),), round=1)
    assert store.priors.get(STUDY) == kept

    store.priors.begin(SEARCH)

    everything = (ShownPrior("old", "b"), *FOUND["shown"])
    assert store.priors.get(STUDY) == replace(SEARCH, taken_back=everything, round=2)


@pytest.mark.parametrize("changed", [{"route": "knee"}, {"service": "other"}, {"group": "chest"}])
def test_what_other_readers_were_shown_is_taken_back(changed: dict[str, str]) -> None:
    other = replace(GROWN, **changed)
    assert not other.wants_as(GROWN)
    assert other.after(replace(SEARCH, **FOUND)) == replace(other, taken_back=FOUND["shown"], round=1)


def test_what_is_shown_after_another_search_was_begun_is_taken_back(store: Store, clock: SetClock) -> None:
    store.priors.begin(SEARCH)
    store.priors.begin(GROWN)
    store.priors.save(replace(GROWN, round=1).ended())
    clock.move(minutes=1)

    saved = store.priors.save(replace(SEARCH, **FOUND))

    assert saved == replace(GROWN, round=1, due=clock(), taken_back=FOUND["shown"])
    assert store.priors.get(STUDY) == saved


def test_a_search_that_is_withdrawn_has_everything_to_take_back_and_nobody_to_look_for(
    store: Store, clock: SetClock
) -> None:
    store.priors.withdraw(STUDY)
    assert store.priors.get(STUDY) is None
    store.priors.begin(SEARCH)
    store.priors.save(replace(SEARCH, **FOUND, decoded=1).ended())
    clock.move(minutes=1)

    store.priors.withdraw(STUDY)
    store.priors.withdraw(STUDY)

    withdrawn = replace(SEARCH, patients=(), due=clock(), taken_back=FOUND["shown"], round=1)
    assert store.priors.get(STUDY) == withdrawn
