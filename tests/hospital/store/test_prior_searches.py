"""Searches for priors in the store: one at a time, sealed, and never set back by an older one."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from hospital.store.gateway_store import Store
from hospital.store.prior_searches import PriorSearch
from hospital.store.received import PatientId
from tests.hospital.clock import START, SetClock
from tests.hospital.received_samples import PATIENT, STUDY

LATER = START + timedelta(minutes=5)
SEARCH = PriorSearch(STUDY, "chest", (PATIENT,), START, START + timedelta(hours=1), START)


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
    merged = replace(SEARCH, patients=(PATIENT, PatientId("17", PATIENT.issuer)))
    store.priors.begin(merged)
    store.priors.save(SEARCH.ended("gone"))
    assert store.priors.get(STUDY) == merged
    store.priors.save(replace(merged, handed=("1.8",)))
    assert store.priors.get(STUDY) == replace(merged, handed=("1.8",))
