"""Studies that are handed over: `/v1/jobs`."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from consilium.schemas import JobAnswer, WorklistCount
from tests.service.fakes import FakeModel
from tests.service.test_application import Client, png, serve
from tests.service.test_worklist import lines, probability, worklist

PATH = "/v1/jobs"


async def submitted(client: Client, files: Any, **more: Any) -> JobAnswer:
    answer = await client.post(PATH, files=files, **more)
    assert answer.status_code == 202, answer.text
    job = JobAnswer.model_validate_json(answer.text)
    assert answer.headers["Location"] == f"/v1/jobs/{job.job_id}"
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


def test_each_study_is_answered_and_its_line_can_be_fetched_as_often_as_wanted() -> None:
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
            assert row["request_id"] == str(job.job_id), "by this a job's answers are found in the record"

    serve(scenario)
