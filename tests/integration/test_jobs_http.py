"""Jobs of a real service that is killed amid them: they end after its restart, every study answered once."""

from __future__ import annotations

import json
import sqlite3
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx

from consilium.api.schemas import DiagnosisAnswer, JobAnswer
from service.app.launch import RunningService
from tests.integration.processes import kill
from tests.integration.test_service_http import RECORDS, png
from tests.patience import PATIENCE_S

STUDIES = 40
NAME = "Zq17Quill"


def service(model: Path) -> RunningService:
    return RunningService(model, {"model_threads": 1, "device": "cpu", "job_lease_s": 1, "job_places": 1})


def worklist() -> list[tuple[str, Any]]:
    requests = [RECORDS | {"caller_reference": f"{NAME}-{study}"} for study in range(STUDIES)]
    image = ("x", png(1))
    files = [(f"images.{study}", image) for study in range(STUDIES)]
    return [*files, ("requests", (None, json.dumps(requests), "application/json"))]


def shown(client: httpx.Client, job: JobAnswer) -> JobAnswer:
    answer = client.get(f"/v1/jobs/{job.job_id}")
    assert answer.status_code == 200, answer.text
    return JobAnswer.model_validate_json(answer.text)


def test_a_job_of_a_killed_service_ends_with_every_study_answered_once(home: Path, tiny_folder: Path) -> None:
    with service(tiny_folder) as running, httpx.Client(base_url=running.url, timeout=PATIENCE_S) as client:
        taken = client.post("/v1/jobs", files=worklist(), headers={"Idempotency-Key": "night"})
        assert taken.status_code == 202, taken.text
        job = JobAnswer.model_validate_json(taken.text)
        while shown(client, job).answered < 3:
            time.sleep(0.01)
        kill(running)
    with sqlite3.connect(home / "audit-log.db") as record:
        assert record.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        before = {line for (line,) in record.execute("SELECT result_id FROM results")}
    assert 3 <= len(before) <= STUDIES, "amid them, but where a busy machine let the service end them first"
    held = b"".join(path.read_bytes() for path in home.rglob("*") if path.is_file())
    assert NAME.encode() not in held
    assert RECORDS["notes"][0]["text"].encode() not in held

    with service(tiny_folder) as running, httpx.Client(base_url=running.url, timeout=PATIENCE_S) as client:
        again = client.post("/v1/jobs", files=worklist(), headers={"Idempotency-Key": "night"})
        assert (again.content, again.headers["Idempotent-Replayed"]) == (taken.content, "true")
        while shown(client, job).state != "done":
            time.sleep(0.05)
        *lines, count = map(json.loads, client.get(f"/v1/jobs/{job.job_id}/results").text.splitlines())
        assert count == {"studies": STUDIES, "answered": STUDIES, "refused": 0}
        answers = [DiagnosisAnswer.model_validate(line["answer"]) for line in lines]
        assert [answer.caller_reference for answer in answers] == [f"{NAME}-{study}" for study in range(STUDIES)]
        assert NAME not in running.log()
        while 'consilium_jobs{state="done"} 1.0' not in client.get("/metrics").text:
            time.sleep(0.05)
    with sqlite3.connect(home / "audit-log.db") as record:
        kept = Counter(line for (line,) in record.execute("SELECT result_id FROM results"))
        assert record.execute("SELECT count(*) FROM job_inputs").fetchone() == (0,)
    assert kept == Counter(answer.result_id.hex for answer in answers), "each once, and nothing beside them"
    assert before <= set(kept)
