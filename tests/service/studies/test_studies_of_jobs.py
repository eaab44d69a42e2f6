"""Studies of jobs that a reading group reads: seen by it once they are answered, and by nobody else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from uuid import UUID

from consilium.api.schemas import ExplanationAnswer, JobAnswer, StudyDetail, StudyList
from service.scopes import Scope
from tests.service.app.test_routes import Client, refused, serve
from tests.service.callers import caller
from tests.service.fakes import FakeModel
from tests.service.jobs.test_jobs import ended
from tests.service.studies.test_studies import FIRST, film, rows

BROKEN = {"Broken.": ["no such finding"]}
JOBS, STUDIES = "/v1/jobs", "/v1/studies"


def worklist(*texts: str) -> list[tuple[str, Any]]:
    asked = [{"notes": [{"kind": "history", "text": text}], "findings": BROKEN.get(text)} for text in texts]
    requests = json.dumps([{name: value for name, value in one.items() if value} for one in asked])
    files = [(f"images.{number}", ("x", film(StudyInstanceUID=f"1.2.{number}"))) for number in range(len(texts))]
    return [*files, ("requests", (None, requests, "application/json"))]


async def handed_over(client: Any, *texts: str, group: str | None = "chest") -> JobAnswer:
    named = {} if group is None else {"reading_group": group}
    answer = await client.post(JOBS, params={"kind": "explain", **named}, files=worklist(*texts))
    assert answer.status_code == 202, answer.text
    return JobAnswer.model_validate_json(answer.text)


def of_chest(client: Client) -> Client:
    return caller(client, "key:router", Scope.DIAGNOSE, groups=("chest",))


async def listed(client: Any) -> StudyList:
    return StudyList.model_validate_json((await client.get(STUDIES)).text)


def test_the_group_sees_what_a_job_answered_and_another_group_does_not() -> None:
    async def scenario(client: Client, _: FakeModel) -> None:
        router = caller(client, "key:router", Scope.DIAGNOSE, groups=("bone", "chest"))
        ann = caller(client, "oidc:ann", Scope.DIAGNOSE, groups=("chest",))
        bob = caller(client, "oidc:bob", Scope.DIAGNOSE, groups=("bone",))
        job = await handed_over(router, "Cough.", "Fever.")
        assert (await ended(router, job)).answered == 2
        assert (await listed(bob)).total == 0
        found = await listed(ann)
        assert [(one.state, one.image_count) for one in found.studies] == [("answered", 1)] * 2
        for one in found.studies:
            place = f"{STUDIES}/{one.study_id}"
            assert (await ann.get(f"{place}/images/0")).status_code == 200
            assert (await ann.post(f"{place}/reads", json=FIRST)).status_code == 201
            shown = ExplanationAnswer.model_validate_json((await ann.get(f"{place}/answer")).text)
            for path in ("", "/images/0", "/answer"):
                refused(await bob.get(place + path), 404)
            assert str(shown.result_id) in (await router.get(f"{JOBS}/{job.job_id}/results")).text, "explained once"

    serve(scenario, studies=True)


def test_a_refused_study_of_a_job_leaves_nothing_for_readers(embedded_audit_log: Path) -> None:
    async def scenario(client: Client, _: FakeModel) -> None:
        router = of_chest(client)
        done = await ended(router, await handed_over(router, "Broken.", "Cough."))
        assert (done.answered, done.refused) == (1, 1)
        assert (await listed(router)).total == 1

    serve(scenario, studies=True)
    assert len(rows(embedded_audit_log, "studies")) == 1
    assert [row[1] for row in rows(embedded_audit_log, "study_chunks")] == ["images[0]"]


def test_what_was_answered_anew_replaces_what_nobody_has_looked_at(embedded_audit_log: Path) -> None:
    async def scenario(somebody: Client, _: FakeModel) -> None:
        client = of_chest(somebody)
        for text in ("Cough.", "Fever."):
            await ended(client, await handed_over(client, text))
        (line,) = (await listed(client)).studies
        place = f"{STUDIES}/{line.study_id}"
        assert (await client.get(place)).json()["notes"][0]["text"] == "Fever."
        await ended(client, await handed_over(client, "Chills."))
        assert (await listed(client)).total == 2, "somebody has it before him"
        older = StudyDetail.model_validate_json((await client.get(place)).text)
        newer = next(one for one in (await listed(client)).studies if one.study_id != line.study_id)
        assert older.superseded_by == newer.study_id
        detail = StudyDetail.model_validate_json((await client.get(f"{STUDIES}/{newer.study_id}")).text)
        assert (detail.superseded_by, detail.notes[0].text) == (None, "Chills.")

    serve(scenario, studies=True)


def test_who_handed_a_study_over_finds_it_by_its_answer_and_nobody_else_does() -> None:
    async def scenario(client: Client, _: FakeModel) -> None:
        router = of_chest(client)
        job = await handed_over(router, "Cough.")
        await ended(router, job)
        (line,) = (await listed(router)).studies
        result, _ = (await router.get(f"{JOBS}/{job.job_id}/results")).text.splitlines()
        answer = json.loads(result)["answer"]["result_id"]

        async def named(asker: Client, result_id: str) -> list[UUID]:
            found = await asker.post(f"{STUDIES}/search", json={"result_id": result_id})
            return [one.study_id for one in StudyList.model_validate_json(found.text).studies]

        assert await named(router, answer) == [line.study_id]
        assert await named(router, str(line.study_id)) == []
        reader = caller(client, "key:reader", Scope.DIAGNOSE, groups=("chest",))
        assert await named(reader, answer) == []
        assert (await listed(reader)).total == 1

    serve(scenario, studies=True)


def test_a_job_without_a_group_is_nobody_s_to_read() -> None:
    async def scenario(client: Client, _: FakeModel) -> None:
        await ended(client, await handed_over(client, "Cough.", group=None))
        assert (await listed(client)).total == 0

    serve(scenario, studies=True)


def test_a_group_must_be_the_caller_s_the_job_explain_and_the_service_store_studies() -> None:
    async def scenario(client: Client, _: FakeModel) -> None:
        router = caller(client, "key:router", Scope.DIAGNOSE, groups=("bone",))
        for given in ({"kind": "explain", "reading_group": "chest"}, {"kind": "diagnose", "reading_group": "bone"}):
            answer = await router.post(JOBS, params=given, files=worklist("Cough."))
            assert refused(answer, 422)["field"] == "reading_group"

    async def without(client: Client, _: FakeModel) -> None:
        answer = await client.post(JOBS, params={"kind": "explain", "reading_group": "a"}, files=worklist("Cough."))
        assert "CONSILIUM_STUDIES" in refused(answer, 422)["rule"]

    serve(scenario, studies=True)
    serve(without)
