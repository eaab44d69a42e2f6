"""Which earlier studies are priors: of the same person, made before, not too long ago, of what the route asks for."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta

import pytest

from hospital.store.received import PatientId
from hospital.studies.rules.prior_rules import PriorRules
from tests.hospital.studies.records import CLINIC, NOON, STUDY, WARD

FORMER = PatientId("17", "WARD")
RULES = PriorRules(("pacs", "web"), years=2, modalities=frozenset({"DX", "CR"}))


@dataclass(frozen=True)
class Found:
    study: str
    time: datetime | None = NOON - timedelta(days=30)
    patient: PatientId | None = WARD
    modalities: tuple[str, ...] = ("DX",)


def chosen(*found: Found, rules: PriorRules = RULES) -> list[str]:
    kept = rules.candidates([("pacs", one) for one in found], STUDY, NOON, {WARD, FORMER})
    return [one.study for _, one in kept]


def test_the_latest_come_first_under_whatever_number_of_the_person() -> None:
    old = Found("1", NOON - timedelta(days=300), FORMER)
    assert chosen(old, Found("2"), Found("3", NOON - timedelta(hours=1))) == ["3", "2", "1"]


@pytest.mark.parametrize(
    "other",
    [
        Found(STUDY),
        Found("2", patient=CLINIC),
        Found("2", patient=None),
        Found("2", patient=PatientId("4711", None)),
        Found("2", time=None),
        Found("2", time=NOON),
        Found("2", time=NOON - timedelta(days=732)),
        Found("2", modalities=("CT", "SR")),
    ],
    ids=["itself", "other issuer", "nobody", "no issuer", "no time", "not before", "too old", "other modality"],
)
def test_what_is_no_prior(other: Found) -> None:
    assert chosen(other, Found("9")) == ["9"]


def test_a_study_that_two_sources_have_is_the_first_source_s_and_one_without_modalities_is_looked_into() -> None:
    silent = Found("2", modalities=())
    assert RULES.candidates([("pacs", silent), ("web", silent)], STUDY, NOON, {WARD}) == [("pacs", silent)]


def test_any_modality_fits_where_none_is_asked_for_and_a_body_part_is_asked_of_the_series() -> None:
    anything = replace(RULES, modalities=frozenset(), body_parts=frozenset({"CHEST"}))
    assert chosen(Found("2", modalities=("CT",)), rules=anything) == ["2"]
    assert [anything.fits("CT", part) for part in ("chest ", "KNEE", None)] == [True, False, False]
    assert RULES.fits("dx", None)
    assert not RULES.fits("CT", None)


def test_sources_are_asked_for_the_days_of_whatever_zone_they_keep() -> None:
    assert RULES.days(NOON) == (date(2022, 3, 5), date(2024, 3, 6))
    ancient = datetime(20, 1, 1, tzinfo=UTC)
    assert replace(RULES, years=150).days(ancient)[0] >= date(1, 1, 1)
