"""Priors that are handed over to be shown beside another study: seen there, on no worklist, asked of no model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from consilium.api.schemas import StudyAnswer, StudyDetail, StudyList
from consilium.domain.study import identifier_digest
from service.scopes import Scope
from tests.service.app.test_routes import Client, refused, serve
from tests.service.callers import caller
from tests.service.fakes import FakeModel
from tests.service.studies.test_studies import FIRST, PATH, ended, film, form, rows, seen, submitted

LATEST, PRIOR = "1.2.3", "1.2.9"
BESIDE = str(identifier_digest(LATEST))


async def handed_over(client: Client, *, beside: str = BESIDE, study: str = PRIOR, **more: Any) -> StudyAnswer:
    earlier = film(StudyInstanceUID=study, AcquisitionDate="20230101", PatientID="a former number")
    return await submitted(client, [("images", ("x", earlier))], params={"beside": beside}, **more)


async def listed(client: Client, **query: Any) -> StudyList:
    return StudyList.model_validate_json((await client.get(PATH, params=query)).text)


def shown(detail: StudyDetail) -> list[object]:
    return [one.study_id for one in detail.priors]


def test_a_prior_is_shown_with_its_study_alone_whatever_its_files_call_the_patient() -> None:
    async def scenario(client: Client, model: FakeModel) -> None:
        prior = await handed_over(client)
        other = await handed_over(client, beside=str(identifier_digest("1.2.4")), study="1.2.8")
        study = await ended(client, await submitted(client, form(film())))
        found = await ended(client, prior)
        await ended(client, other)
        assert (found.state, found.image_count, found.priors) == ("stored", 1, ())
        assert shown(await seen(client, study)) == [prior.study_id]
        assert (await client.get(f"{PATH}/{prior.study_id}/images/0")).status_code == 200

    serve(scenario, studies=True)


def test_a_prior_is_on_no_worklist_and_has_no_answer(embedded_audit_log: Path) -> None:
    async def scenario(client: Client, model: FakeModel) -> None:
        prior = await handed_over(client)
        await ended(client, prior)
        for query in ({}, {"sort": "studied"}, {"state": "waiting"}):
            assert (await listed(client, **query)).total == 0
        problem = refused(await client.get(f"{PATH}/{prior.study_id}/answer"), 409)
        assert "no answer" in problem["detail"]
        assert (await client.post(f"{PATH}/{prior.study_id}/reads", json=FIRST)).status_code == 201
        assert not (await seen(client, prior)).reading.may_see_answer
        refused(await client.get(f"{PATH}/{prior.study_id}/answer"), 409)

    serve(scenario, studies=True, studies_answer="at_once")
    assert rows(embedded_audit_log, "results") == [], "the model was not asked"
    assert [row[1] for row in rows(embedded_audit_log, "study_chunks")] == ["images[0]"]


def test_who_handed_priors_over_finds_them_by_their_study() -> None:
    async def scenario(client: Client, _: FakeModel) -> None:
        router = caller(client, "key:router", Scope.DIAGNOSE, Scope.READ, groups=("bone", "chest"))
        first, second = [await handed_over(router, study=study) for study in ("1.2.8", PRIOR)]
        await handed_over(router, beside=str(identifier_digest("1.2.4")))
        await handed_over(caller(client, "key:other", Scope.DIAGNOSE, Scope.READ, groups=("bone",)))
        await submitted(router, form(film()))

        answer = await router.post(f"{PATH}/search", json={"beside": BESIDE})

        kept = StudyList.model_validate_json(answer.text)
        assert [one.study_id for one in kept.studies] == [second.study_id, first.study_id]
        assert kept.total == 2
        problem = refused(await router.post(f"{PATH}/search", json={"beside": LATEST}), 422)
        assert problem["field"] == "beside"

    serve(scenario, studies=True)


def test_a_study_that_was_answered_stands_for_the_same_one_as_a_prior_and_the_last_for_earlier_ones() -> None:
    async def scenario(client: Client, _: FakeModel) -> None:
        await ended(client, await handed_over(client))
        again = await handed_over(client)
        await ended(client, again)
        study = await ended(client, await submitted(client, form(film())))
        assert shown(study) == [again.study_id]
        own = await submitted(client, form(film(StudyInstanceUID=PRIOR, AcquisitionDate="20230101")))
        await ended(client, own)
        assert shown(await seen(client, study)) == [own.study_id]

    serve(scenario, studies=True)


def test_the_same_request_is_the_same_prior_and_another_study_s_is_not() -> None:
    async def scenario(client: Client, _: FakeModel) -> None:
        key = {"Idempotency-Key": "prior-1"}
        first = await handed_over(client, headers=key)
        assert (await handed_over(client, headers=key)).study_id == first.study_id
        other = {"beside": str(identifier_digest("1.2.4"))}
        answer = await client.post(PATH, params=other, files=[("images", ("x", film()))], headers=key)
        refused(answer, 422)

    serve(scenario, studies=True)


def test_a_group_that_is_not_the_sender_s_and_a_digest_that_is_none_are_refused() -> None:
    async def scenario(client: Client, _: FakeModel) -> None:
        router = caller(client, "key:router", Scope.DIAGNOSE, groups=("bone", "chest"))
        given: dict[str, str]
        for given in ({"reading_group": "heart"}, {"beside": LATEST}, {"besides": BESIDE}):
            answer = await router.post(PATH, params=given, files=form(film()))
            assert refused(answer, 422)["field"] == next(iter(given))
        study = await submitted(router, form(film()), params={"reading_group": "chest"})
        ann = caller(client, "oidc:ann", Scope.DIAGNOSE, groups=("chest",))
        assert (await ended(ann, study)).state == "answered"

    serve(scenario, studies=True)


def test_priors_go_with_the_last_study_of_their_group_that_they_are_shown_with(embedded_audit_log: Path) -> None:
    async def scenario(client: Client, _: FakeModel) -> None:
        mine = await handed_over(client)
        of_another = await handed_over(client, beside=str(identifier_digest("1.2.4")), study="1.2.8")
        router = caller(client, "key:router", Scope.DIAGNOSE, Scope.READ, groups=("bone",))
        of_others = await handed_over(router)
        first, again = [await submitted(client, form(film(PatientID=number))) for number in ("4711", "17")]
        for one in (mine, of_another, first, again):
            await ended(client, one)
        await ended(router, of_others)

        assert (await client.delete(f"{PATH}/{first.study_id}")).status_code == 204
        assert shown(await seen(client, again)) == [mine.study_id], "the same study under another number"
        assert (await client.delete(f"{PATH}/{again.study_id}")).status_code == 204

        refused(await client.get(f"{PATH}/{mine.study_id}"), 404)
        await seen(client, of_another)
        await seen(router, of_others)

    serve(scenario, studies=True)
    assert len(rows(embedded_audit_log, "study_chunks")) == 2


def test_what_is_later_than_the_study_or_the_study_itself_is_no_prior_of_it() -> None:
    async def scenario(client: Client, _: FakeModel) -> None:
        earlier = await submitted(client, form(film(AcquisitionDate="20200101")))
        later, itself = await handed_over(client), await handed_over(client, study=LATEST)
        for one in (earlier, later, itself):
            await ended(client, one)
        assert shown(await seen(client, earlier)) == []
        study = await ended(client, await submitted(client, form(film())))
        assert later.study_id in shown(study)
        assert itself.study_id not in shown(study)

    serve(scenario, studies=True)
