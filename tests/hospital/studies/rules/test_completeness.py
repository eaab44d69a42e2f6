"""When a study is asked about."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

import pytest

from hospital.studies.rules.completeness import Arrived, CompletenessRules, Verdict, completeness
from tests.hospital.studies.records import NOON, minutes

RULES = CompletenessRules(quiet=minutes(1), deadline=minutes(30))
TWO = Arrived(first=NOON, last=NOON + minutes(2), instances=2)


def seen(arrived: Arrived, at: datetime, rules: CompletenessRules = RULES) -> Verdict:
    return completeness(arrived, rules, at, every=minutes(0.5))


def test_a_study_is_not_complete_before_it_was_quiet() -> None:
    counted = replace(TWO, counted=2)
    assert seen(counted, NOON + minutes(2.9)) == Verdict(again=NOON + minutes(3))
    assert seen(counted, NOON + minutes(3)) == Verdict(proof="count")


def test_an_open_association_keeps_a_quiet_study_open() -> None:
    held = replace(TWO, counted=2, open_associations=1)
    assert seen(held, NOON + minutes(10)) == Verdict(again=NOON + minutes(10.5))


@pytest.mark.parametrize(("counted", "complete"), [(None, False), (3, False), (2, True), (1, True)])
def test_the_count_of_the_source_proves_a_study(counted: int | None, complete: bool) -> None:
    assert seen(replace(TWO, counted=counted), NOON + minutes(5)).complete is complete


def test_required_views_prove_a_study() -> None:
    rules = replace(RULES, proofs=("views",), views=frozenset({"PA", "LATERAL"}))
    assert not seen(replace(TWO, views=frozenset({"PA"})), NOON + minutes(5), rules).complete
    assert seen(replace(TWO, views=frozenset({"PA", "LATERAL", "AP"})), NOON + minutes(5), rules).proof == "views"


def test_no_required_views_prove_nothing() -> None:
    assert not seen(TWO, NOON + minutes(5), replace(RULES, proofs=("views",))).complete


def test_an_announcement_proves_a_study_once_all_that_it_names_is_here() -> None:
    rules = replace(RULES, proofs=("count", "announced"))
    assert not seen(replace(TWO, announced={"1": True, "2": False}), NOON + minutes(5), rules).complete
    assert seen(replace(TWO, announced={"1": True, "2": True}), NOON + minutes(5), rules).proof == "announced"


def test_without_a_proof_being_asked_for_quiet_is_enough() -> None:
    assert seen(TWO, NOON + minutes(3), replace(RULES, proofs=())) == Verdict()


@pytest.mark.parametrize(
    ("arrived", "told"),
    [
        (TWO, "its source had not confirmed that it is whole"),
        (replace(TWO, counted=3), "2 of the source's 3 objects had arrived"),
        (replace(TWO, last=NOON + minutes(29.5), counted=2), "objects were still arriving"),
        (replace(TWO, open_associations=1, counted=2), "objects were still arriving"),
    ],
)
def test_at_the_deadline_a_study_goes_on_with_a_warning(arrived: Arrived, told: str) -> None:
    verdict = seen(arrived, NOON + minutes(30))
    assert verdict.complete
    assert verdict.warning == f"the study may be incomplete: at the deadline {told}"


def test_missing_views_are_named_at_the_deadline() -> None:
    rules = replace(RULES, proofs=("views",), views=frozenset({"PA", "LATERAL"}))
    warning = seen(replace(TWO, views=frozenset({"PA"})), NOON + minutes(31), rules).warning
    assert warning is not None
    assert warning.endswith("these views were missing: LATERAL")


def test_the_next_look_is_never_after_the_deadline() -> None:
    assert seen(TWO, NOON + minutes(29.9)).again == NOON + minutes(30)
