from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from uuid import uuid4

import pytest

from consilium.domain.diagnosis import Diagnosis, ModelIdentity
from consilium.domain.errors import InputError
from consilium.domain.study import Study
from consilium.modalities.converter import NotConverted
from service.audit_log.entries import Claim, Draft, Endpoint, Origin
from service.observability.metrics import Metrics
from service.serving.served_model import Role
from service.serving.shadow import Shadow
from tests.patience import PATIENCE_S, until_async
from tests.service.fakes import POISON, FakeModel, note_study, reads
from tests.service.following import Numbered

ORIGIN = Origin("key:1", "a-request")
Kept = list[tuple[Draft, Study, str, Diagnosis]]


def draft() -> Draft:
    return Draft(Endpoint.DIAGNOSE, ORIGIN, "order-17", Claim("k", "1", uuid4()), latencies_ms={"decode": 3.0})


def listen(
    scenario: Callable[[Shadow, Metrics], Awaitable[None]],
    model: FakeModel | None,
    most_waiting: int = 8,
    record: Callable[[Draft, Study, str, Diagnosis], Awaitable[None]] | None = None,
) -> tuple[Kept, Metrics]:
    kept: Kept = []
    metrics = Metrics()

    async def keep(*answer: object) -> None:
        kept.append(answer)  # type: ignore[arg-type]

    async def go() -> None:
        shadow = Shadow(lambda: model, metrics, most_waiting, record or keep)
        shadow.start()
        try:
            await scenario(shadow, metrics)
        finally:
            await shadow.stop()

    asyncio.run(asyncio.wait_for(go(), PATIENCE_S))
    return kept, metrics


async def _answers(metrics: Metrics, model: FakeModel) -> None:
    """Once an answer of `model` has been recorded and counted."""
    labels = {"role": "shadow", "version": model.identity.version}
    await until_async(lambda: metrics.registry.get_sample_value("consilium_answers_total", labels) == 1)


def _count(metrics: Metrics, name: str) -> float | None:
    return metrics.registry.get_sample_value(name)


def test_a_shadow_answers_a_copy_under_an_id_of_its_own() -> None:
    model = Numbered(ModelIdentity("consilium-fake", "9", "cd" * 32))
    original = draft()

    async def scenario(shadow: Shadow, metrics: Metrics) -> None:
        shadow.submit(original, reads(note_study("Cough.")))
        await _answers(metrics, model)

    kept, metrics = listen(scenario, model)
    ((copy, study, role, diagnosis),) = kept
    assert copy.result_id != original.result_id
    assert copy.claim is None, "the idempotency key is its caller's answer's"
    assert (copy.origin, copy.endpoint, copy.caller_reference) == (ORIGIN, Endpoint.DIAGNOSE, "order-17")
    assert set(copy.latencies_ms) == {"diagnose"}
    assert original.latencies_ms == {"decode": 3.0}
    assert [note.text for note in study.parts["text"]] == ["Cough."]
    assert (role, diagnosis.model.version) == (Role.SHADOW, "9")
    assert diagnosis.findings[0].probability == 0.006
    answered = metrics.registry.get_sample_value("consilium_answers_total", {"role": "shadow", "version": "9"})
    assert answered == 1


def test_what_the_shadow_has_no_time_for_is_dropped_and_counted() -> None:
    model = FakeModel()
    model.hold.clear()

    async def scenario(shadow: Shadow, _: Metrics) -> None:
        shadow.submit(draft(), reads(note_study("the first")))
        await asyncio.to_thread(model.entered.wait, PATIENCE_S)
        for number in range(5):
            shadow.submit(draft(), reads(note_study(f"another {number}")))
        model.hold.set()
        await until_async(lambda: len(model.batches) == 3)

    _, metrics = listen(scenario, model, most_waiting=2)
    assert _count(metrics, "consilium_shadow_dropped_total") == 3


@pytest.mark.parametrize("text", [POISON, "unprepared"])
def test_a_study_that_the_shadow_fails_on_is_counted_and_the_next_is_answered(
    text: str, caplog: pytest.LogCaptureFixture
) -> None:
    model = FakeModel()

    async def scenario(shadow: Shadow, metrics: Metrics) -> None:
        shadow.submit(draft(), reads(note_study(text)))
        shadow.submit(draft(), reads(note_study("Cough.")))
        await _answers(metrics, model)

    kept, metrics = listen(scenario, model)
    assert len(kept) == 1
    assert _count(metrics, "consilium_shadow_failed_total") == 1
    assert bool(caplog.records) is (text == POISON), "what is the study's own fault, its caller has learned"


def test_what_was_decoded_for_other_models_is_dropped_and_counted() -> None:
    model = FakeModel()

    def condensed_for_others(_: object) -> Study:
        raise NotConverted("an image was condensed without letterbox2-48")

    async def scenario(shadow: Shadow, _: Metrics) -> None:
        shadow.submit(draft(), condensed_for_others)
        shadow.submit(draft(), reads(note_study("Cough.")))
        await until_async(lambda: sum(model.batches) == 1)

    _, metrics = listen(scenario, model)
    assert _count(metrics, "consilium_shadow_dropped_total") == 1
    assert _count(metrics, "consilium_shadow_failed_total") == 0


def test_a_shadow_answer_that_cannot_be_recorded_does_not_end_the_shadow() -> None:
    model, seen = FakeModel(), []

    async def fails(*answer: object) -> None:
        seen.append(answer)
        if len(seen) == 1:
            raise InputError("record", "", "must be there")

    async def scenario(shadow: Shadow, _: Metrics) -> None:
        for _ in range(2):
            shadow.submit(draft(), reads(note_study("Cough.")))
        await until_async(lambda: len(seen) == 2)

    listen(scenario, model, record=fails)


def test_without_a_shadow_nothing_is_kept_waiting() -> None:
    async def scenario(shadow: Shadow, _: Metrics) -> None:
        for _ in range(9):
            shadow.submit(draft(), reads(note_study("Cough.")))
        assert shadow._waiting.empty()

    _, metrics = listen(scenario, None)
    assert _count(metrics, "consilium_shadow_dropped_total") == 0


def test_before_the_start_the_shadow_answers_nothing() -> None:
    async def go() -> None:
        shadow = Shadow(FakeModel, Metrics(), 1, lambda *_: asyncio.sleep(0))
        shadow.submit(draft(), reads(note_study("Cough.")))
        assert shadow._waiting.empty()

    asyncio.run(go())
