"""Several studies in one body: `POST /v1/diagnose/batch`."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from typing import Any, cast

import httpx
import pytest
from starlette.applications import Starlette

from consilium.api.schemas import DiagnosisAnswer, ProblemAnswer, WorklistCount
from service.app.lifecycle import Lifecycle
from service.batching import Closed, QueueFull
from tests.patience import PATIENCE_S, until_async
from tests.service.app.test_routes import Client, note, png, refused, serve
from tests.service.fakes import POISON, FakeModel

PATH = "/v1/diagnose/batch"
BOUNDARY = "multipart/form-data; boundary=b"


def worklist(*texts: str, **images: bytes) -> list[tuple[str, Any]]:
    """A study for each of `texts`, and the `images` of some: ``images_1``."""
    requests = [{"notes": [{"kind": "history", "text": text}]} if text else {} for text in texts]
    files = [(name.replace("_", "."), ("x", data)) for name, data in images.items()]
    return [*files, ("requests", (None, json.dumps(requests), "application/json"))]


def lines(answer: httpx.Response) -> tuple[dict[int, dict[str, Any]], WorklistCount]:
    """The line of each study, and the count."""
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/x-ndjson"
    *lines, last = [json.loads(line) for line in answer.text.splitlines()]
    studies = {line.pop("study"): line for line in lines}
    assert len(studies) == len(lines)
    return studies, WorklistCount.model_validate(last)


def probability(line: dict[str, Any]) -> float:
    return DiagnosisAnswer.model_validate(line["answer"]).findings[0].probability


def problem(line: dict[str, Any]) -> ProblemAnswer:
    return ProblemAnswer.model_validate(line["problem"])


def lifecycle_of(client: Client) -> Lifecycle:
    transport = cast(httpx.ASGITransport, client._transport)
    return cast(Lifecycle, cast(Starlette, transport.app).state.lifecycle)


def test_each_study_gets_its_own_line_and_the_last_line_counts_them() -> None:
    async def scenario(client: Client, _: FakeModel) -> None:
        studies, count = lines(await client.post(PATH, files=worklist("x", "", "xxx", images_1=png(51))))
        assert count == WorklistCount(studies=3, answered=3, refused=0)
        assert [probability(studies[study]) for study in range(3)] == [0.001, pytest.approx(0.2, abs=1e-6), 0.003]
        assert set(studies[1]["answer"]["input_digests"]) == {"images[0]"}

    serve(scenario)


def test_a_line_is_recorded_before_it_is_sent_and_as_any_diagnosis() -> None:
    async def scenario(client: Client, _: FakeModel) -> None:
        headers = {"X-Request-Id": "router-17"}
        studies, _count = lines(await client.post(PATH, files=worklist("x", "xx", POISON), headers=headers))
        alone = (await client.post("/v1/diagnose", files=note("x"))).json()
        kept = []
        for study in (0, 1):
            answer = studies[study]["answer"]
            kept.append((await client.get(f"/v1/results/{answer['result_id']}")).json())
            assert kept[-1]["endpoint"] == "diagnose"
            assert kept[-1]["findings"][0]["probability"] == answer["findings"][0]["probability"]
        assert kept[0]["request_id"] == kept[1]["request_id"], "by this a worklist's answers are found"
        assert set(alone) == set(studies[0]["answer"])

    serve(scenario)


def test_studies_fail_alone_each_with_the_problem_that_it_would_have_had() -> None:
    async def scenario(client: Client, model: FakeModel) -> None:
        files = worklist("x", POISON, "unprepared", "", "xx", images_3=b"%PDF-1.7")
        odd = json.loads(files[-1][1][1])
        odd += [{"nots": []}, "no object", {"notes": [{"kind": "history", "text": 5}]}]
        files[-1] = ("requests", (None, json.dumps(odd), "application/json"))
        studies, count = lines(await client.post(PATH, files=files))
        assert count == WorklistCount(studies=8, answered=2, refused=6)
        assert (probability(studies[0]), probability(studies[4])) == (0.001, 0.002)
        problems = {study: problem(line) for study, line in studies.items() if "problem" in line}
        assert {study: one.status for study, one in problems.items()} == {
            1: 500,
            2: 422,
            3: 415,
            5: 422,
            6: 422,
            7: 422,
        }
        assert (problems[3].field, problems[3].value) == ("images[0]", "'PDF'")
        assert problems[5].rule == "is no known key; the nearest is 'notes'"
        assert problems[7].field == "notes[0].text"
        assert len({one.instance for one in problems.values()}) == 6
        counted = lifecycle_of(client).engine.metrics.registry
        assert counted.get_sample_value("consilium_worklist_studies_total", {"status": "200"}) == 2
        assert counted.get_sample_value("consilium_worklist_studies_total", {"status": "422"}) == 4

    serve(scenario)


def test_the_content_of_a_poisoned_study_reaches_nobody(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(client: Client, _: FakeModel) -> None:
        answer = await client.post(PATH, files=worklist("x", POISON))
        assert "Jane" not in answer.text

    with caplog.at_level(logging.DEBUG):
        serve(scenario)
    assert "ValueError" in caplog.text
    assert "Jane" not in caplog.text


BAD: list[tuple[list[tuple[str, Any]], int, str]] = [
    ([("requests", (None, b"[{", "application/json"))], 400, "requests"),
    ([("requests", (None, b"\x80\x04", "application/octet-stream"))], 400, "requests"),
    ([("requests", (None, b"[]", "application/json"))], 422, "requests"),
    ([("requests", (None, b"{}", "application/json"))], 422, "requests"),
    ([("requests", (None, b"[{}]", "application/x-yaml"))], 415, "requests.Content-Type"),
    (worklist("x", "y", "z", "zz"), 413, "requests"),
    ([("images.0", ("x", png(1)))], 422, "requests"),
    (worklist("x", images_1=png(1)), 422, "form field"),
    (worklist("x", images_3=png(1)), 413, "form field"),
    ([*worklist("x"), *worklist("x")], 422, "requests"),
    ([("images", ("x", png(1))), *worklist("x")], 422, "form field"),
    ([("images.00", ("x", png(1))), *worklist("x")], 422, "form field"),
    ([("images.-1", ("x", png(1))), *worklist("x")], 422, "form field"),
    ([("request", (None, b"{}", "application/json"))], 422, "form field"),
    ([("images.0", (None, "http://127.0.0.1:9/x.dcm")), *worklist("x")], 422, "images.0[0]"),
    ([*[("images.0", ("x", png(1)))] * 3, *worklist("x")], 413, "images.0"),
    ([("images.0", ("x", bytes(3000))), *worklist("x")], 413, "images.0[0]"),
    (worklist("x" * 5000), 413, "requests"),
]


@pytest.mark.parametrize(("files", "status", "field"), BAD)
def test_a_body_that_is_no_worklist_is_refused_whole(files: list[tuple[str, Any]], status: int, field: str) -> None:
    async def scenario(client: Client, model: FakeModel) -> None:
        answer = refused(await client.post(PATH, files=files), status)
        assert answer["field"] == field, answer
        assert model.batches == []
        assert lifecycle_of(client).worklists.admitted == 0

    serve(scenario, max_worklist_studies=3, max_images=2, max_image_bytes=2000, max_requests_bytes=4000)


def test_a_worklist_waits_for_places_and_never_exceeds_its_limit() -> None:
    most: list[int] = []

    async def scenario(client: Client, model: FakeModel) -> None:
        engine = lifecycle_of(client).engine
        free_place = engine.diagnoses.free_place

        async def counted() -> Any:
            place = await free_place()
            most.append(engine.diagnoses.admitted + 1)
            return place

        engine.diagnoses.free_place = counted  # type: ignore[method-assign]
        studies, count = lines(await client.post(PATH, files=worklist(*["x" * n for n in range(1, 21)])))
        assert count.answered == 20
        assert [probability(studies[n]) for n in range(20)] == [(n + 1) / 1000 for n in range(20)]

    model = serve(scenario, diagnosis_queue=64, worklist_places=3, batch_size=8, batch_wait_ms=5000)
    assert max(most) == 3
    assert sum(model.batches) == 20
    assert 1 < max(model.batches) <= 3, "its studies share batches"


def test_a_full_queue_delays_a_worklist_and_a_worklist_leaves_places_for_single_studies() -> None:
    async def scenario(client: Client, model: FakeModel) -> None:
        diagnoses = lifecycle_of(client).engine.diagnoses
        with diagnoses.place(), diagnoses.place(), diagnoses.place():
            waiting = asyncio.create_task(client.post(PATH, files=worklist("x", "xx", "xxx", "xxxx")))
            await asyncio.sleep(0.1)
            assert diagnoses.admitted == 3
            with pytest.raises(QueueFull):
                diagnoses.place()
        assert lines(await waiting)[1].answered == 4
        model.hold.clear()
        model.entered.clear()
        waiting = asyncio.create_task(client.post(PATH, files=worklist("x", "xx", "xxx", "xxxx")))
        await asyncio.to_thread(model.entered.wait, PATIENCE_S)
        single = asyncio.create_task(client.post("/v1/diagnose", files=note("x" * 9)))
        await until_async(lambda: diagnoses.admitted == 3)
        model.hold.set()
        assert (await single).status_code == 200
        assert lines(await waiting)[1].answered == 4

    serve(scenario, diagnosis_queue=3, worklist_places=2)


def test_too_many_concurrent_worklists_are_503_at_once() -> None:
    async def scenario(client: Client, model: FakeModel) -> None:
        model.hold.clear()
        first = asyncio.create_task(client.post(PATH, files=worklist("x")))
        await asyncio.to_thread(model.entered.wait, PATIENCE_S)
        full = await client.post(PATH, files=worklist("x"))
        refused(full, 503)
        assert full.headers["retry-after"] == "4"
        metrics = lifecycle_of(client).engine.metrics.registry
        assert metrics.get_sample_value("consilium_admitted_requests", {"queue": "worklist"}) == 1
        model.hold.set()
        assert lines(await first)[1].answered == 1
        assert lines(await client.post(PATH, files=worklist("x")))[1].answered == 1

    serve(scenario, worklist_queue=1, retry_after_s=4)


def test_a_study_that_takes_too_long_is_504_in_its_line() -> None:
    async def scenario(client: Client, model: FakeModel) -> None:
        model.hold.clear()
        studies, count = lines(await client.post(PATH, files=worklist("x", "xx")))
        assert (count.answered, count.refused) == (0, 2)
        assert {problem(line).status for line in studies.values()} == {504}
        model.hold.set()
        assert lifecycle_of(client).engine.diagnoses.admitted == 0

    serve(scenario, answer_timeout_s=0.3, batch_size=1)


def test_a_service_that_drains_ends_a_worklist_with_its_count() -> None:
    async def scenario(client: Client, model: FakeModel) -> None:
        engine = lifecycle_of(client).engine
        model.hold.clear()
        waiting = asyncio.create_task(client.post(PATH, files=worklist("x", "xx", "xxx")))
        await asyncio.to_thread(model.entered.wait, PATIENCE_S)
        draining = asyncio.create_task(engine.diagnoses.drain())
        await asyncio.sleep(0.05)
        model.hold.set()
        studies, count = lines(await waiting)
        await draining
        with pytest.raises(Closed):
            await engine.diagnoses.free_place()
        assert (count.answered, count.refused) == (1, 2)
        assert {problem(line).status for line in studies.values() if "problem" in line} == {503}

    serve(scenario, worklist_places=1)


def test_the_same_worklist_again_gets_the_same_bytes_and_answers_what_was_not() -> None:
    async def scenario(client: Client, model: FakeModel) -> None:
        headers = {"Idempotency-Key": "night-run-4"}
        first, _ = lines(await client.post(PATH, files=worklist("x", POISON, "xxx"), headers=headers))
        asked = sum(model.batches)
        again, count = lines(await client.post(PATH, files=worklist("x", POISON, "xxx"), headers=headers))
        assert again[0] == first[0]
        assert again[2] == first[2]
        assert (count.answered, count.refused) == (2, 1)
        assert sum(model.batches) == asked + 1, "only the poisoned one was asked again, in vain"
        other, _ = lines(await client.post(PATH, files=worklist("x", POISON, "another"), headers=headers))
        assert (other[0], problem(other[2]).field) == (first[0], "Idempotency-Key")
        alone = await client.post("/v1/diagnose", files=note("single"), headers=headers)
        assert alone.status_code == 200, "a study's key is no request's"

    serve(scenario)


async def asked_directly(
    client: Client, texts: list[str], send: Callable[[dict[str, Any]], Awaitable[None]], gone: asyncio.Event
) -> None:
    """Post a worklist as a caller who takes each message with `send`, and closes the connection once `gone`."""
    sent = client.build_request("POST", PATH, files=worklist(*texts))
    messages = [{"type": "http.request", "body": sent.read(), "more_body": False}]

    async def receive() -> dict[str, Any]:
        if messages:
            return messages.pop()
        await gone.wait()
        return {"type": "http.disconnect"}

    scope = {"type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}, "http_version": "1.1"}
    scope |= {"method": "POST", "path": PATH, "raw_path": PATH.encode(), "query_string": b"", "root_path": ""}
    scope |= {"headers": [(name.lower(), value) for name, value in sent.headers.raw], "scheme": "http"}
    await cast(httpx.ASGITransport, client._transport).app(scope, receive, send)


def test_a_caller_who_goes_away_leaves_no_work_behind() -> None:
    async def scenario(client: Client, model: FakeModel) -> None:
        lifecycle, gone, sent = lifecycle_of(client), asyncio.Event(), []

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        model.hold.clear()
        asking = asyncio.create_task(asked_directly(client, ["x"] * 10, send, gone))
        await asyncio.to_thread(model.entered.wait, PATIENCE_S)
        gone.set()
        await asking
        model.hold.set()
        assert (await client.post("/v1/diagnose", files=note("x"))).status_code == 200
        assert (
            lifecycle.engine.diagnoses.admitted,
            lifecycle.engine.diagnoses.waiting,
            lifecycle.worklists.admitted,
        ) == (0, 0, 0)
        assert [message["type"] for message in sent] == ["http.response.start"]

    model = serve(scenario, batch_size=1, worklist_places=4)
    assert sum(model.batches) == 2, "the study that the model was at, and the single one afterwards"


def test_a_caller_who_reads_no_further_is_cut_off_and_holds_no_places_meanwhile() -> None:
    async def scenario(client: Client, model: FakeModel) -> None:
        lifecycle, sent, freed = lifecycle_of(client), [], asyncio.Event()

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)
            if len(sent) > 2:
                await until_async(lambda: lifecycle.engine.diagnoses.admitted == 0)
                freed.set()
                await asyncio.Event().wait()

        await asked_directly(client, ["x"] * 10, send, asyncio.Event())
        assert freed.is_set()
        assert [message["type"] for message in sent] == ["http.response.start", *["http.response.body"] * 2]
        assert all(message.get("more_body", True) for message in sent), "cut off, and seen to be"
        assert lifecycle.worklists.admitted == 0

    model = serve(scenario, send_timeout_s=2, worklist_places=2, batch_size=1)
    assert sum(model.batches) < 10, "it goes no further than it is read"


def test_lines_are_sent_while_other_studies_are_still_asked() -> None:
    async def scenario(client: Client, model: FakeModel) -> None:
        sent: list[dict[str, Any]] = []
        first = asyncio.Event()

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)
            if message.get("body"):
                first.set()

        slow = asyncio.Event()
        engine = lifecycle_of(client).engine
        original = engine.diagnose

        async def diagnosed(form: Any, *others: Any) -> Any:
            if b"slow" in form.request:
                await slow.wait()
            return await original(form, *others)

        engine.diagnose = diagnosed  # type: ignore[method-assign]
        asking = asyncio.create_task(asked_directly(client, ["slow", "x"], send, asyncio.Event()))
        await asyncio.wait_for(first.wait(), PATIENCE_S)
        assert json.loads(sent[-1]["body"])["study"] == 1
        slow.set()
        await asking
        assert [json.loads(message["body"]) for message in sent if message.get("body")][-1]["studies"] == 2

    serve(scenario)
