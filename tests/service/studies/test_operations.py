"""What those who run the service see over time, and of versions that are tried."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from consilium.domain.study import Study
from service.audit_log.entries import Entry, Origin
from service.audit_log.store import Store
from service.audit_log.tables import ResultRow, StudyRow
from service.studies.operations import Figures
from tests.service.audit_log.samples import entry, image
from tests.service.fakes import FakeModel

DAY_S = 86_400.0
NOW = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)


def answered(store: Store, *entries: Entry) -> None:
    store.commit(list(entries), DAY_S)


def of_film(digest: str, version: str = "7") -> dict[str, Any]:
    """What an entry holds of a study with this image."""
    study, model = Study({"image": (replace(image(), digest=digest * 32),)}), FakeModel()
    model.identity = replace(model.identity, version=version)
    return {"study": study, "diagnosis": model._diagnosis(study)}


def came(store: Store, state: str, when: datetime) -> None:
    row = StudyRow(
        study_id=uuid4(),
        reading_group="chest",
        caller="key:router",
        state=state,
        submitted=when,
        pixels_until=NOW + timedelta(days=1),
        expires=NOW + timedelta(days=1),
        losses=0,
        size=0,
    )
    with store.database.writing() as session:
        session.add(row)


@pytest.fixture
def busy(store: Store) -> Store:
    """Answers of three days ago and of the last two hours, and what became of stored studies."""
    yesterday, before = NOW - timedelta(days=1), NOW - timedelta(hours=1)
    old = NOW - timedelta(days=3)
    answered(
        store,
        *(entry(time=old, latencies_ms={"decode": 10.0, "diagnose": ms}) for ms in (10.0, 30.0, 50.0)),
        entry(time=NOW, latencies_ms={"diagnose": 5.0}),
        entry(time=before, latencies_ms={"diagnose": 7.0}),
        entry(time=NOW, role="shadow", version="8", latencies_ms={"diagnose": 900.0}),
    )
    for state in ("answered", "refused", "refused", "queued", "receiving", "answered"):
        came(store, state, old)
    came(store, "refused", yesterday - timedelta(days=1))
    return store


def test_rates_are_given_by_day_and_by_hour_those_of_the_shadow_aside(busy: Store) -> None:
    found = Figures(busy).counted()
    first, refusals, *rest = found["days"]
    assert (first.day, first.answers, first.refused) == ((NOW - timedelta(days=3)).date(), 3, 0.5)
    assert (first.median_ms, first.p95_ms) == (40.0, pytest.approx(58.0))
    assert (first.referred, first.out_of_distribution) == (1.0, 0.0)
    assert (refusals.answers, refusals.refused, refusals.median_ms, refusals.referred) == (0, 1.0, None, None)
    assert sum(one.answers for one in rest) == 2
    hours = [(one.hour, one.answers, one.median_ms, one.refused) for one in found["hours"]]
    assert hours[-2:] == [(NOW - timedelta(hours=1), 1, 7.0, None), (NOW, 1, 5.0, None)]
    assert all(one.hour > NOW - timedelta(hours=48) for one in found["hours"])


def test_without_answers_there_are_no_rates(store: Store) -> None:
    found = Figures(store).counted()
    assert (found["days"], found["hours"], found["versions"]) == ([], [], [])


def test_a_shadow_is_compared_with_the_answer_to_the_same_records(store: Store) -> None:
    one, job = Origin("key:ward3", str(uuid4())), Origin("key:ward3", str(uuid4()))
    other = entry(time=NOW, origin=one, role="shadow", version="8")
    answered(
        store,
        entry(time=NOW, origin=one),
        other,
        *(entry(time=NOW, origin=job, **of_film(film)) for film in ("5a", "6b")),
        entry(time=NOW, origin=job, role="shadow", **of_film("6b", "8")),
        entry(time=NOW, role="shadow", version="8"),
        entry(time=NOW, role="canary", version="9"),
    )
    versions = {(figure.role, figure.version): figure for figure in Figures(store).counted()["versions"]}
    assert set(versions) == {("serving", "7"), ("shadow", "8"), ("canary", "9")}
    shadow = versions["shadow", "8"]
    assert (shadow.answers, shadow.compared, shadow.agreeing) == (3, 2, 2), "the studies of a job have one request"
    assert (versions["canary", "9"].compared, versions["canary", "9"].referred) == (None, 1.0)
    with store.database.writing() as session:
        row = session.get_one(ResultRow, other.result_id)
        first, *rest = row.findings
        row.findings = [first | {"call": not first["call"]}, *rest]
    (shadow,) = (figure for figure in Figures(store).counted()["versions"] if figure.role == "shadow")
    assert (shadow.compared, shadow.agreeing) == (2, 1)


def test_each_answer_of_a_shadow_is_compared_once_however_often_a_job_holds_its_study(store: Store) -> None:
    films, copies, jobs = ["1a", "2b", "3c"], 4, [Origin("key:ward3", str(uuid4())) for _ in range(2)]
    for job in jobs:
        given = {"time": NOW, "origin": job}
        of_job = [of_film(film) for film in films for _ in range(copies)]
        shadowed = [of_film(film, "8") for film in films for _ in range(copies)]
        answered(store, *(entry(**given, **one) for one in of_job))
        answered(store, *(entry(**given, role="shadow", **one) for one in shadowed))
    answered(store, entry(time=NOW, origin=jobs[0], role="shadow", **of_film("ff", "8")))
    (shadow,) = (figure for figure in Figures(store).counted()["versions"] if figure.role == "shadow")
    every = len(jobs) * len(films) * copies
    assert (shadow.answers, shadow.compared, shadow.agreeing) == (every + 1, every, every)
