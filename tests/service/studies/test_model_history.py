"""What the service recorded of its models: which were loaded and refused, and how probabilities met outcomes."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from consilium.api.schemas import ModelHistoryAnswer
from consilium.domain.diagnosis import ModelIdentity
from service.audit_log.deployment_log import LOADED, REFUSED, REMOVED, ModelEvent, keep_event, latest_events
from service.audit_log.retention import purge
from service.audit_log.store import Store
from service.audit_log.tables import FeedbackRow
from service.studies.model_history import ModelHistory, calibration_points
from tests.service.app.test_routes import Client, serve
from tests.service.audit_log.samples import entry
from tests.service.fakes import FakeModel

MODEL = ModelIdentity("consilium-fake", "7", "a" * 64)
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def test_events_come_back_latest_first_and_end_with_what_is_purged(store: Store) -> None:
    events = [
        ModelEvent("serving", LOADED, MODEL, time=NOON),
        ModelEvent("serving", REFUSED, MODEL, "findings", "got other findings", NOON + timedelta(minutes=1)),
        ModelEvent("canary", REMOVED, MODEL, time=NOON + timedelta(minutes=2)),
    ]
    for one in events:
        keep_event(store.database, one)
    found = latest_events(store.database, 2)
    assert [(one.event, one.role, one.time) for one in found] == [
        (one.event, one.role, one.time) for one in events[:0:-1]
    ]
    assert (found[1].model, found[1].reason, found[1].detail) == (MODEL, "findings", "got other findings")
    assert (found[0].reason, found[0].detail) == (None, None)
    purge(store.database, timedelta(days=1))
    assert latest_events(store.database, 9) == []


def test_a_point_is_mean_probability_and_confirmed_share_with_wilson_s_interval() -> None:
    outcomes = [(0.2, False)] * 16 + [(0.2, True)] * 4 + [(0.8, True)] * 20
    low, high = calibration_points(outcomes)
    assert (low.predicted, low.observed, low.outcomes) == (pytest.approx(0.2), 0.2, 20)
    assert (low.observed_low, low.observed_high) == (pytest.approx(0.0807, abs=1e-4), pytest.approx(0.4160, abs=1e-4))
    assert (high.observed, high.observed_high) == (1.0, 1.0)
    assert high.observed_low == pytest.approx(0.8389, abs=1e-4)
    assert calibration_points(outcomes[:19]) == []


def confirmed(store: Store, result_id: UUID, state: str, minutes: int, *, influenced: bool | None = False) -> None:
    with store.database.writing() as session:
        session.add(
            FeedbackRow(
                feedback_id=uuid4(),
                finding="pneumonia",
                result_id=result_id,
                state=state,
                time=NOON + timedelta(minutes=minutes),
                caller="oidc:ann",
                influenced=influenced,
            )
        )


def test_the_latest_outcome_counts_and_neither_influenced_nor_unknown_ones_do(store: Store) -> None:
    answers = [entry() for _ in range(4)]
    store.commit(answers, 1.0)
    first, second, third, fourth = (one.result_id for one in answers)
    confirmed(store, first, "absent", 1)
    confirmed(store, first, "present", 2)
    confirmed(store, second, "absent", 1, influenced=None)
    confirmed(store, third, "unknown", 1)
    confirmed(store, fourth, "present", 1, influenced=True)
    digest = answers[0].diagnosis.model.manifest_digest
    (found,) = ModelHistory(store).of(digest).calibration
    assert (found.finding, found.outcomes, found.points) == ("pneumonia", 2, ())
    assert ModelHistory(store).of("b" * 64).calibration == ()


async def _with_events(client: Client) -> ModelHistoryAnswer:
    """The answer once it has an event: they are noted on the audit log's thread, which nobody waits for."""
    while not (
        found := ModelHistoryAnswer.model_validate(json.loads((await client.get("/v1/model/history")).text))
    ).events:
        await asyncio.sleep(0.005)
    return found


def test_a_service_that_starts_has_loaded_its_model() -> None:
    async def scenario(client: Client, model: FakeModel) -> None:
        found = await _with_events(client)
        assert [(one.event, one.role, one.model) for one in found.events] == [("loaded", "serving", model.identity)]
        assert found.calibration == ()

    serve(scenario)
