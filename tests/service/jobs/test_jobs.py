"""Studies that are handed over: `/v1/jobs`."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import sqlite3
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from pathlib import Path
from typing import Any, cast

import httpx
import pytest

from consilium.api.schemas import ExplanationLine, JobAnswer, WorklistCount
from consilium.domain.errors import DecodersDied
from service.app.lifecycle import Lifecycle
from service.app.routes import create_app
from service.http.multipart import Form
from service.http.problems import Overdue, Unavailable
from service.jobs.worker_store import wipe
from service.leased_work import lease_worker
from service.scopes import Scope
from service.settings import Settings
from tests.patience import PATIENCE_S, until_async
from tests.service.app.test_routes import Client, note, png, refused, serve
from tests.service.callers import caller
from tests.service.fakes import POISON, FakeModel
from tests.service.serving.test_worklist import lifecycle_of, lines, probability, problem, worklist

PATH = "/v1/jobs"


async def submitted(client: Client, files: Any, **more: Any) -> JobAnswer:
    answer = await client.post(PATH, files=files, **more)
    assert answer.status_code == 202, answer.text
    job = JobAnswer.model_validate_json(answer.text)
    assert answer.url.join(answer.headers["Location"]).path == f"/v1/jobs/{job.job_id}"
    assert (job.state, job.answered, job.refused, job.ended) == ("queued", 0, 0, None)
    return job


async def shown(client: Client, job: JobAnswer) -> JobAnswer:
    answer = await client.get(f"{PATH}/{job.job_id}")
    assert answer.status_code == 200, answer.text
    return JobAnswer.model_validate_json(answer.text)


async def ended(client: Client, job: JobAnswer) -> JobAnswer:
    while (seen := await shown(client, job)).state in ("queued", "running"):
        await asyncio.sleep(0.01)
    return seen


async def fetched(client: Client, job: JobAnswer) -> tuple[dict[int, dict[str, Any]], WorklistCount]:
    return lines(await client.get(f"{PATH}/{job.job_id}/results"))


def recorded(home: Path) -> int:
    with sqlite3.connect(home / "audit-log.db") as record:
        return cast(int, record.execute("SELECT count(*) FROM results").fetchone()[0])


def test_each_study_is_answered_and_its_line_can_be_fetched_as_often_as_wanted(embedded_audit_log: Path) -> None:
    async def scenario(client: Client, _: FakeModel) -> None:
        job = await submitted(client, worklist("x", "", "xxx", images_1=png(51)))
        assert (job.kind, job.studies) == ("diagnose", 3)
        done = await ended(client, job)
        assert (done.state, done.answered, done.refused) == ("done", 3, 0)
        assert done.ended is not None
        assert done.expires > done.ended
        studies, count = await fetched(client, job)
        assert count == WorklistCount(studies=3, answered=3, refused=0)
        assert [probability(studies[study]) for study in range(3)] == [0.001, pytest.approx(0.2, abs=1e-6), 0.003]
        assert (await fetched(client, job))[0] == studies
        for study in studies.values():
            row = (await client.get(f"/v1/results/{study['answer']['result_id']}")).json()
            assert row["request_id"] == str(job.job_id), "by this a job's answers are found in the audit log"
        assert recorded(embedded_audit_log) == 3

    serve(scenario)


def test_more_lines_than_are_read_at_once_come_in_their_order() -> None:
    async def scenario(client: Client, _: FakeModel) -> None:
        job = await submitted(client, worklist(*["x" * n for n in range(1, 41)]))
        assert (await ended(client, job)).answered == 40
        answer = await client.get(f"{PATH}/{job.job_id}/results")
        lines = [json.loads(line) for line in answer.text.splitlines()]
        assert [line["study"] for line in lines[:-1]] == list(range(40))
        assert [probability(line) for line in lines[:-1]] == [n / 1000 for n in range(1, 41)]

    serve(scenario, job_places=4)


def test_studies_fail_alone_each_with_the_problem_that_it_would_have_had(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(client: Client, _: FakeModel) -> None:
        files = worklist("x", POISON, "unprepared", "", "xx", images_3=b"%PDF-1.7")
        job = await submitted(client, files)
        done = await ended(client, job)
        assert (done.state, done.answered, done.refused) == ("done", 2, 3)
        studies, _count = await fetched(client, job)
        problems = {study: problem(line) for study, line in studies.items() if "problem" in line}
        assert {study: one.status for study, one in problems.items()} == {1: 500, 2: 422, 3: 415}
        assert (problems[3].field, problems[3].value) == ("images[0]", "'PDF'")
        assert "Jane" not in str(studies)
        counted = lifecycle_of(client).engine.metrics.registry
        assert counted.get_sample_value("consilium_job_studies_total", {"status": "200"}) == 2
        assert counted.get_sample_value("consilium_job_studies_total", {"status": "415"}) == 1

    with caplog.at_level(logging.DEBUG):
        serve(scenario)
    assert "Jane" not in caplog.text


def _failure(kind: str) -> Exception:
    """A new one each time: it holds what its traceback does."""
    if kind == "decoders died":
        return DecodersDied("images[0]", "killed two decoders (SIGKILL, SIGKILL)", "must be decodable")
    if kind == "late":
        return Overdue("The answer took longer than 30 s.", HTTPStatus.GATEWAY_TIMEOUT)
    return Unavailable("No image can be decoded now.", 1) if kind == "unavailable" else RuntimeError("no memory")


@pytest.mark.parametrize(
    ("kind", "times"),
    [("decoders died", 2), ("late", 2), ("broken", 2), ("unavailable", 5)],
    ids=str,
)
def test_a_study_that_fails_through_no_fault_of_its_own_is_tried_again(
    kind: str, times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease_worker, "_RETRY_S", 0.01)

    async def scenario(client: Client, _: FakeModel) -> None:
        intake, left = lifecycle_of(client).engine._intake, times
        decode = intake.decode

        async def failing(files: Any, converters: Any) -> Any:
            nonlocal left
            left -= 1
            if left >= 0:
                raise _failure(kind)
            return await decode(files, converters)

        monkeypatch.setattr(intake, "decode", failing)
        job = await submitted(client, worklist("x"))
        assert (await ended(client, job)).answered == 1
        left = 1000
        if kind != "unavailable":
            job = await submitted(client, worklist("x"))
            assert (await ended(client, job)).refused == 1, "it is not tried for ever"
            assert left == 1000 - 3

    serve(scenario)


def test_explanations_of_all_findings_are_a_job_of_their_own_kind(embedded_audit_log: Path) -> None:
    async def scenario(client: Client, _: FakeModel) -> None:
        files = worklist("Cough.", "Fever.")
        files[-1] = ("requests", (None, '[{"notes": [{"kind": "history", "text": "Cough."}]}, {"findings": ["flu"]}]'))
        job = await submitted(client, files, params={"kind": "explain"})
        assert (await ended(client, job)).kind == "explain"
        answer = await client.get(f"{PATH}/{job.job_id}/results")
        first, second, last = answer.text.splitlines()
        parsed = ExplanationLine.model_validate_json(first)
        assert [one.finding for one in parsed.answer.explanations] == ["pneumonia", "pneumothorax"]
        assert (problem(json.loads(second)).status, json.loads(last)["answered"]) == (422, 1)
        assert recorded(embedded_audit_log) == 1
        assert refused(await client.post(PATH, files=files, params={"kind": "similar"}), 422)["field"] == "kind"

    serve(scenario)


def test_a_job_under_way_has_no_results_yet() -> None:
    async def scenario(client: Client, model: FakeModel) -> None:
        model.hold.clear()
        job = await submitted(client, worklist("x", "xx"))
        await asyncio.to_thread(model.entered.wait, PATIENCE_S)
        seen = await shown(client, job)
        assert (seen.state, seen.answered, seen.ended) == ("running", 0, None)
        early = await client.get(f"{PATH}/{job.job_id}/results")
        assert refused(early, 409)["detail"] == "This job has not ended yet."
        assert early.headers["Retry-After"] == "10"
        model.hold.set()
        assert (await ended(client, job)).state == "done"

    serve(scenario)


def test_a_cancelled_job_is_answered_no_further(embedded_audit_log: Path) -> None:
    async def scenario(client: Client, model: FakeModel) -> None:
        model.hold.clear()
        job = await submitted(client, worklist("x", "xx", "xxx"))
        await asyncio.to_thread(model.entered.wait, PATIENCE_S)
        answer = await client.request("DELETE", f"{PATH}/{job.job_id}")
        assert (answer.status_code, answer.json()["state"]) == (200, "cancelled")
        model.hold.set()
        other = await submitted(client, worklist("y"))
        assert (await ended(client, other)).state == "done"
        studies, count = await fetched(client, job)
        assert count == WorklistCount(studies=3, answered=0, refused=3)
        assert {problem(line).status for line in studies.values()} == {409}
        assert problem(studies[0]).detail == "The job was cancelled."
        assert recorded(embedded_audit_log) == 1, "that of the other job"
        assert lifecycle_of(client).engine.diagnoses.admitted == 0
        again = await client.request("DELETE", f"{PATH}/{job.job_id}")
        assert again.json() == answer.json(), "cancelled once, and as it was ever after"

    serve(scenario, job_places=1)


def test_answers_that_were_fetched_can_be_deleted_and_leave_room(embedded_audit_log: Path) -> None:
    async def scenario(client: Client, model: FakeModel) -> None:
        model.hold.clear()
        job = await submitted(client, worklist("x" * 900))
        place = f"{PATH}/{job.job_id}/results"
        refused(await client.delete(place), 409)
        model.hold.set()
        await ended(client, job)
        refused(await client.post(PATH, files=worklist("x" * 900)), 503)
        answer = await client.delete(place)
        assert (answer.status_code, answer.content) == (204, b"")
        for gone in (await client.delete(place), await client.get(place), await client.get(f"{PATH}/{job.job_id}")):
            refused(gone, 404)
        await submitted(client, worklist("x" * 900))
        assert recorded(embedded_audit_log) >= 1

    serve(scenario, job_storage_bytes=1500)


def test_a_job_is_nobody_else_s_but_an_administrator_sees_it() -> None:
    async def scenario(client: Client, _: FakeModel) -> None:
        one, other = (caller(client, name, Scope.DIAGNOSE) for name in ("key:a", "key:b"))
        job = await submitted(one, worklist("x"))
        await ended(one, job)
        for method, place in (("GET", ""), ("DELETE", ""), ("GET", "/results"), ("DELETE", "/results")):
            answer = await other.request(method, f"{PATH}/{job.job_id}{place}")
            assert refused(answer, 404)["type"] == "urn:consilium:problem:no-such-job"
            nothing = await one.request(method, f"{PATH}/9e6f9d5b-6a0e-4f55-8f0f-0f6d6d3c7a21{place}")
            assert refused(nothing, 404)["rule"] == answer.json()["rule"], "there or another's: the same"
            assert refused(await one.request(method, f"{PATH}/4711{place}"), 422)["field"] == "job_id"
        admin = caller(client, "key:c", Scope.DIAGNOSE, Scope.ADMIN)
        assert (await fetched(admin, job))[0] == (await fetched(one, job))[0]

    serve(scenario)


def test_each_study_counts_as_a_request() -> None:
    async def scenario(client: Client, _: FakeModel) -> None:
        charged: list[int] = []
        one = caller(client, "key:a", Scope.DIAGNOSE, charged=charged)
        await submitted(one, worklist("x", "xx", "xxx"))
        assert charged == [2], "the first is counted at the door"
        await one.post("/v1/diagnose/batch", files=worklist("x", "xx"))
        await one.post("/v1/diagnose", files=note("x"))
        assert charged == [2, 1]

    serve(scenario)


def test_the_routes_of_jobs_are_described() -> None:
    async def scenario(client: Client, _: FakeModel) -> None:
        for place, allowed in (("", "POST"), ("/x", "DELETE, GET"), ("/x/results", "DELETE, GET")):
            answer = await client.put(f"{PATH}{place}")
            refused(answer, 405)
            assert answer.headers["Allow"] == allowed

    serve(scenario)


def test_the_same_job_again_is_the_first_one() -> None:
    async def scenario(client: Client, _: FakeModel) -> None:
        async def hand_over(key: str, *texts: str, **more: Any) -> httpx.Response:
            return await client.post(PATH, files=worklist(*texts), headers={"Idempotency-Key": key}, **more)

        first, again = [await hand_over("k", "x", "xx") for _ in range(2)]
        assert again.content == first.content
        assert again.headers["Location"] == first.headers["Location"]
        assert again.headers["Idempotent-Replayed"] == "true"
        for other in (await hand_over("k", "x", "yy"), await hand_over("k", "x", "xx", params={"kind": "explain"})):
            assert refused(other, 422)["field"] == "Idempotency-Key"
        assert (await hand_over("l", "x", "xx")).json()["job_id"] != first.json()["job_id"]

    serve(scenario)


def test_what_cannot_be_taken_is_refused_before_its_body_is_read() -> None:
    async def scenario(client: Client, model: FakeModel) -> None:
        async def never() -> Any:
            raise AssertionError("read")
            yield b""

        model.hold.clear()
        jobs = [await submitted(client, worklist("x")) for _ in range(2)]
        headers = {"Content-Type": "multipart/form-data; boundary=b"}
        many = await client.post(PATH, content=never(), headers=headers)
        assert refused(many, 429)["detail"] == "This caller has too many jobs that have not ended."
        assert many.headers["Retry-After"] == "10"
        assert lifecycle_of(client).worklists.admitted == 0
        model.hold.set()
        for job in jobs:
            await ended(client, job)
        refused(await client.post(PATH, files=worklist("x" * 9000)), 503)

    serve(scenario, jobs_per_caller=2, job_storage_bytes=8000)


def test_a_body_that_is_no_worklist_or_too_long_is_refused_whole() -> None:
    async def scenario(client: Client, _: FakeModel) -> None:
        assert refused(await client.post(PATH, files=worklist("x", "y", "z")), 413)["field"] == "requests"
        assert refused(await client.post(PATH, files=note("x")), 422)["field"] == "form field"
        refused(await client.post(PATH), 415)
        job = await submitted(client, worklist("x", "y"))
        assert (await ended(client, job)).answered == 2, "more than a worklist may have"

    serve(scenario, max_job_studies=2, max_worklist_studies=1)


def test_a_job_is_deleted_when_its_time_is_over(embedded_audit_log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease_worker, "_PURGE_EVERY_S", 0.05)

    async def scenario(client: Client, _: FakeModel) -> None:
        job = await submitted(client, worklist("x"))
        await ended(client, job)
        with sqlite3.connect(embedded_audit_log / "audit-log.db") as record:
            record.execute("UPDATE jobs SET expires = submitted")
        refused(await client.get(f"{PATH}/{job.job_id}"), 404)
        refused(await client.get(f"{PATH}/{job.job_id}/results"), 404)

        def left() -> int:
            with sqlite3.connect(embedded_audit_log / "audit-log.db") as record:
                tables = ("jobs", "job_studies", "job_inputs")
                return sum(record.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in tables)

        while await asyncio.to_thread(left):
            await asyncio.sleep(0.02)
        assert recorded(embedded_audit_log) == 1, "the audit log keeps what was answered"

    serve(scenario)


def run_twice(first: Callable[[Client, FakeModel], Awaitable[Any]], second: Callable[..., Awaitable[None]]) -> None:
    """`second` asks the service anew, with a model and an engine of its own, and what `first` gave."""

    async def served(scenario: Callable[..., Awaitable[Any]], *given: Any) -> Any:
        model, app = FakeModel(), create_app()
        lifecycle = Lifecycle(Settings(model="fake", job_places=1, batch_size=1), lambda _: model)
        await lifecycle.start()
        model.entered.clear()
        app.state.lifecycle = lifecycle
        try:
            async with Client(transport=httpx.ASGITransport(app), base_url="http://service") as client:
                return await scenario(client, model, *given)
        finally:
            stopping = asyncio.create_task(lifecycle.stop())
            await asyncio.sleep(0.05)
            model.hold.set()
            await stopping

    async def go() -> None:
        await served(second, await served(first))

    asyncio.run(asyncio.wait_for(go(), PATIENCE_S))


def test_a_job_goes_on_at_the_next_start_and_no_study_is_answered_twice(embedded_audit_log: Path) -> None:
    async def begin(client: Client, model: FakeModel) -> JobAnswer:
        job = await submitted(client, worklist("x", "xx", "xxx"))
        while (await shown(client, job)).answered == 0:
            await asyncio.sleep(0.01)
        model.hold.clear()
        return job

    async def end(client: Client, _: FakeModel, job: JobAnswer) -> None:
        assert (await ended(client, job)).answered == 3
        studies, _count = await fetched(client, job)
        assert [probability(studies[study]) for study in range(3)] == [0.001, 0.002, 0.003]
        assert recorded(embedded_audit_log) == 3

    run_twice(begin, end)


def test_a_job_of_a_process_that_dies_is_taken_over_by_the_one_beside_it(embedded_audit_log: Path) -> None:
    async def released(_: Any) -> None:
        """A process that is killed gives nothing back."""

    async def go() -> None:
        models = FakeModel(), FakeModel()
        settings = Settings(model="fake", job_places=1, batch_size=1, job_lease_s=0.5)
        dying, living = (Lifecycle(settings, lambda _, model=model: model) for model in models)  # type: ignore[misc]
        await dying.start()
        models[0].hold.clear()
        app = create_app()
        app.state.lifecycle = dying
        async with Client(transport=httpx.ASGITransport(app), base_url="http://service") as client:
            models[0].entered.clear()
            job = await submitted(client, worklist("x", "xx", "xxx"))
            await asyncio.to_thread(models[0].entered.wait, PATIENCE_S)
            await living.start()
            dying.jobs._release = released  # type: ignore[method-assign]
            await dying.jobs.stop()
            app.state.lifecycle = living
            assert (await ended(client, job)).answered == 3
        models[0].hold.set()
        await asyncio.gather(dying.stop(), living.stop())
        assert recorded(embedded_audit_log) == 3

    asyncio.run(asyncio.wait_for(go(), PATIENCE_S))


def test_while_the_audit_log_is_away_a_job_waits(embedded_audit_log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease_worker, "_RETRY_S", 0.02)

    async def scenario(client: Client, model: FakeModel) -> None:
        model.hold.clear()
        job = await submitted(client, worklist("x", "xx"))
        await asyncio.to_thread(model.entered.wait, PATIENCE_S)
        with sqlite3.connect(embedded_audit_log / "audit-log.db", isolation_level=None) as holder:
            holder.execute("BEGIN IMMEDIATE")
            model.hold.set()
            await asyncio.sleep(0.5)
            away = await client.post(PATH, files=worklist("y"))
            assert refused(away, 503)["detail"] == "The audit log is unavailable."
            holder.execute("ROLLBACK")
        done = await ended(client, job)
        assert (done.state, done.answered) == ("done", 2)
        assert recorded(embedded_audit_log) == 2

    serve(scenario, audit_log_timeout_s=0.1)


def test_a_job_whose_studies_are_gone_is_left_and_others_go_on(embedded_audit_log: Path) -> None:
    async def scenario(client: Client, model: FakeModel) -> None:
        model.hold.clear()
        job = await submitted(client, worklist("x", "xx"))
        await asyncio.to_thread(model.entered.wait, PATIENCE_S)
        store = lifecycle_of(client).engine.recorder.opened
        await asyncio.to_thread(wipe, store.database, job.job_id, 1)
        model.hold.set()
        other = await submitted(client, worklist("y"))
        assert (await ended(client, other)).state == "done"
        assert (await shown(client, job)).state == "running"

    serve(scenario, job_places=1)


def test_memory_of_a_job_is_released_when_it_is_stored_and_when_it_is_answered() -> None:
    async def scenario(client: Client, _: FakeModel) -> None:
        gc.collect()
        gc.disable()
        try:
            for files in (worklist("x", images_0=png(1)), worklist(POISON, "", images_1=b"%PDF-1.7")):
                await ended(client, await submitted(client, files))
                await until_async(lambda: not [kept for kept in gc.get_objects() if type(kept) is Form])
        finally:
            gc.enable()

    serve(scenario)


def test_jobs_are_counted_by_state() -> None:
    async def scenario(client: Client, _: FakeModel) -> None:
        jobs = [await submitted(client, worklist("x")) for _ in range(2)]
        for job in jobs:
            await ended(client, job)
        counted = lifecycle_of(client).engine.metrics.registry
        while counted.get_sample_value("consilium_jobs", {"state": "done"}) != 2:
            await asyncio.sleep(0.01)
        assert counted.get_sample_value("consilium_jobs", {"state": "queued"}) == 0

    serve(scenario)


def test_whoever_waits_is_answered_before_the_rest_of_a_job() -> None:
    """A job has one study at a time in the queue, so that a single one waits for that alone."""
    seen: list[str] = []

    async def scenario(client: Client, model: FakeModel) -> None:
        answer = model.diagnose_prepared

        def noted(items: Any) -> Any:
            seen.extend(item.study.parts["text"][0].text for item in items)
            return answer(items)

        model.diagnose_prepared = noted  # type: ignore[method-assign]
        model.hold.clear()
        job = await submitted(client, worklist(*["x"] * 5))
        await asyncio.to_thread(model.entered.wait, PATIENCE_S)
        single = asyncio.create_task(client.post("/v1/diagnose", files=note("y")))
        while lifecycle_of(client).engine.diagnoses.waiting == 0:
            await asyncio.sleep(0.01)
        model.hold.set()
        assert (await single).status_code == 200
        assert (await ended(client, job)).answered == 5

    serve(scenario, job_places=1, batch_size=1)
    assert seen == ["x", "y", "x", "x", "x", "x"]


def test_nothing_that_names_a_patient_is_in_the_files(embedded_audit_log: Path) -> None:
    words = "Roe, Jane Quill, born 1950-01-02, coughs."

    async def scenario(client: Client, model: FakeModel) -> None:
        model.hold.clear()
        files = worklist(words, "x", images_1=b"\x89PNG Quill 1950-01-02")
        requests = json.loads(files[-1][1][1])
        requests[0]["caller_reference"] = "Quill-17"
        requests.append({"Quill": "coughs"})
        files[-1] = ("requests", (None, json.dumps(requests), "application/json"))
        headers = {"Idempotency-Key": "Quill", "X-Request-Id": "Quill"}
        job = await submitted(client, files, headers=headers)
        await asyncio.to_thread(model.entered.wait, PATIENCE_S)

        def held() -> bytes:
            return b"".join(path.read_bytes() for path in embedded_audit_log.rglob("*") if path.is_file())

        planted = (b"Quill", b"1950-01-02", b"coughs")
        before = held()
        assert job.job_id.hex.encode() in before
        assert [word for word in planted if word in before] == []
        model.hold.set()
        await ended(client, job)
        studies, _ = await fetched(client, job)
        assert "Quill" in str(studies), "it comes back to whom it came from"
        assert [word for word in planted if word in held()] == []

    serve(scenario)
