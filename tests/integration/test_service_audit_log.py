"""The audit log of a real service: what it acknowledged is there when it was killed, and after it was started again."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx

from consilium.api.schemas import DiagnosisAnswer, ResultAnswer
from service.app.launch import RunningService
from tests.integration.processes import kill
from tests.integration.test_service_http import RECORDS, form, png
from tests.patience import PATIENCE_S

CALLERS = 8
ENOUGH = 40
"""Answers that are acknowledged before the service is killed."""


def service(model: Path) -> RunningService:
    return RunningService(model, {"model_threads": 1, "device": "cpu"})


async def ask_until_killed(running: RunningService, answered: dict[str, bytes]) -> None:
    """All callers ask until nobody answers any more; the service is killed, all of it, amid their requests."""

    async def ask(client: httpx.AsyncClient, caller: int) -> None:
        for number in range(10_000):
            name = f"{caller}-{number}"
            try:
                answer = await client.post("/v1/diagnose", files=form(RECORDS), headers={"Idempotency-Key": name})
            except httpx.TransportError:
                return
            assert answer.status_code == 200, answer.text
            answered[name] = answer.content

    async def kill_amid() -> None:
        while len(answered) < ENOUGH:
            await asyncio.sleep(0.01)
        kill(running)

    async with httpx.AsyncClient(base_url=running.url, timeout=PATIENCE_S) as client:
        await asyncio.gather(kill_amid(), *[ask(client, caller) for caller in range(CALLERS)])


def test_a_service_is_not_ready_before_its_audit_log_is(home: Path, tiny_folder: Path) -> None:
    holder = sqlite3.connect(home / "audit-log.db", isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    with ThreadPoolExecutor(1) as pool, ExitStack() as stack:
        running = service(tiny_folder)
        starting = pool.submit(stack.enter_context, running)
        try:
            while not starting.done() and not _knows_its_model(running):
                time.sleep(0.1)
            assert httpx.get(f"{running.url}/livez", timeout=PATIENCE_S).status_code == 200
            assert httpx.get(f"{running.url}/readyz", timeout=PATIENCE_S).status_code == 503
        finally:
            holder.close()
        starting.result()
        assert httpx.post(f"{running.url}/v1/diagnose", files=form(RECORDS), timeout=PATIENCE_S).status_code == 200


def _knows_its_model(running: RunningService) -> bool:
    try:
        return httpx.get(f"{running.url}/v1/model", timeout=PATIENCE_S).status_code == 200
    except httpx.TransportError:
        return False


def test_what_a_killed_service_acknowledged_is_recorded_and_replayed(home: Path, tiny_folder: Path) -> None:
    answered: dict[str, bytes] = {}
    with service(tiny_folder) as running:
        asyncio.run(asyncio.wait_for(ask_until_killed(running, answered), PATIENCE_S))
    assert len(answered) >= ENOUGH
    answers = {name: DiagnosisAnswer.model_validate_json(body) for name, body in answered.items()}
    with sqlite3.connect(home / "audit-log.db") as record:
        assert record.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        kept = {UUID(hex=line) for (line,) in record.execute("SELECT result_id FROM results")}
    assert {answer.result_id for answer in answers.values()} <= kept

    with service(tiny_folder) as running, httpx.Client(base_url=running.url, timeout=PATIENCE_S) as client:
        for name, answer in list(answers.items())[-10:]:
            again = client.post("/v1/diagnose", files=form(RECORDS), headers={"Idempotency-Key": name})
            assert (again.status_code, again.content) == (200, answered[name])
            assert again.headers["Idempotent-Replayed"] == "true"
            row = ResultAnswer.model_validate_json(client.get(f"/v1/results/{answer.result_id}").text)
            assert row.model == answer.model
            assert [one.probability for one in row.findings] == [one.probability for one in answer.findings]
        for key in _unanswered(answered):
            answer = client.post("/v1/diagnose", files=form(RECORDS), headers={"Idempotency-Key": key})
            assert answer.status_code == 200, "its request died with the service"
        _tell_and_find(client)


def _unanswered(answered: dict[str, bytes]) -> list[str]:
    """The keys that the callers had sent when the service was killed."""
    return [f"{caller}-{sum(name.startswith(f'{caller}-') for name in answered)}" for caller in range(CALLERS)]


def _tell_and_find(client: httpx.Client) -> None:
    answer: dict[str, Any] = client.post("/v1/explain", files=form(RECORDS, png(1))).json()
    feedback = {"result_id": answer["result_id"], "findings": {answer["findings"][0]["finding"]: "present"}}
    assert client.post("/v1/feedback", json=feedback).status_code == 201
    row = client.get(f"/v1/results/{answer['result_id']}").json()
    assert (row["endpoint"], row["feedback"][0]["state"]) == ("explain", "present")
