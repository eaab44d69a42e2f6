"""Studies that are stored for readers: `/v1/studies`."""

from __future__ import annotations

import asyncio
import base64
import gzip
import hashlib
import json
import logging
import sqlite3
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from consilium.api.schemas import ExplanationAnswer, ReadAnswer, StudyAnswer, StudyDetail, StudyList, ViewAnswer
from consilium.modalities.image.files.dicom_image import read_dicom
from service.leased_work import lease_worker
from service.scopes import Scope
from tests.consilium.formats.dicom.dicom_files import dicom_file, ramp
from tests.patience import PATIENCE_S
from tests.service.app.test_routes import Client, note, png, refused, serve
from tests.service.callers import caller
from tests.service.fakes import POISON, FakeModel

PATH = "/v1/studies"
LABEL = "Quill^Zara"
FIRST = {"kind": "first", "findings": {"pneumonia": "present", "pneumothorax": "absent"}}


def film(**elements: Any) -> bytes:
    named = {"PatientName": LABEL, "PatientID": "Zq17", "PatientAge": "067Y", "PatientSex": "F"}
    dated = {"StudyInstanceUID": "1.2.3", "AcquisitionDate": "20240305", "AcquisitionTime": "084100"}
    return dicom_file(ramp(), WindowCenter=2048, WindowWidth=4096, **(named | dated | elements))


def form(image: bytes | None = None, text: str = "Cough.", **more: Any) -> list[tuple[str, Any]]:
    files = [] if image is None else [("images", ("x", image))]
    return [*files, *note(text, **more).items()]


async def submitted(client: Client | httpx.AsyncClient, files: Any, **more: Any) -> StudyAnswer:
    answer = await client.post(PATH, files=files, **more)
    assert answer.status_code == 202, answer.text
    study = StudyAnswer.model_validate_json(answer.text)
    assert answer.url.join(answer.headers["Location"]).path == f"{PATH}/{study.study_id}"
    return study


async def seen(client: Client | httpx.AsyncClient, study: StudyAnswer) -> StudyDetail:
    answer = await client.get(f"{PATH}/{study.study_id}")
    assert answer.status_code == 200, answer.text
    return StudyDetail.model_validate_json(answer.text)


async def ended(client: Client | httpx.AsyncClient, study: StudyAnswer) -> StudyDetail:
    while (found := await seen(client, study)).state in ("queued", "running"):
        await asyncio.sleep(0.01)
    return found


async def read(client: Client | httpx.AsyncClient, study: StudyAnswer, **more: Any) -> ReadAnswer:
    answer = await client.post(f"{PATH}/{study.study_id}/reads", json=FIRST | more)
    assert answer.status_code == 201, answer.text
    return ReadAnswer.model_validate_json(answer.text)


def rows(home: Path, table: str) -> list[tuple[Any, ...]]:
    with sqlite3.connect(home / "audit-log.db") as database:
        return database.execute(f"SELECT * FROM {table}").fetchall()


def everything_stored(home: Path) -> bytes:
    return b"".join(path.read_bytes() for path in home.rglob("*") if path.is_file())


def test_a_study_is_shown_with_the_greys_of_the_model_s_own_reading() -> None:
    async def scenario(client: Client, _: FakeModel) -> None:
        sent = film(PixelSpacing=[0.2, 0.2], ViewPosition="PA")
        observations = [{"code": "1988-5", "value": 11.2, "unit": "mg/dL", "time": "2024-03-05T08:20:00"}]
        study = await submitted(client, form(sent, observations=observations))
        found = await ended(client, study)
        assert found.state == "answered"
        assert found.patient is not None
        assert (found.patient.label, found.patient.age, found.patient.sex) == ("Quill Zara · Zq17", 67, "F")
        assert (found.image_count, found.modalities) == (1, ("image", "text", "observations"))
        assert found.studied is not None
        assert found.studied.isoformat()[:16] == "2024-03-05T08:41"
        (view,) = found.images
        assert (view.rows, view.columns, view.bits, view.signed) == (48, 64, 16, False)
        assert (view.spacing_mm, view.spacing_source, view.view) == ((0.2, 0.2), "PixelSpacing", "PA")
        assert [(one.center, one.width) for one in view.windows] == [(2048, 4096)]
        words = await client.get(f"{PATH}/{study.study_id}/images/0")
        digest = base64.b64encode(hashlib.sha256(words.content).digest()).decode()
        assert words.headers["Content-Digest"] == f"sha-256=:{digest}:"
        assert (view.words_digest, view.study_instance_uid) == (hashlib.sha256(words.content).hexdigest(), "1.2.3")
        assert (words.headers["Consilium-Encoding"], words.headers["Cache-Control"]) == ("raw", "private, no-store")
        shown = np.frombuffer(words.content, "<u2").reshape(48, 64)
        greys = np.frombuffer(base64.b64decode(view.table.greys), np.uint8)[shown - view.table.first]
        np.testing.assert_array_equal(greys, read_dicom(sent).pixels >> 8)
        (value,) = found.observations
        assert (value.code, value.value, value.unit, value.as_sent) == ("1988-5", 112.0, "mg/L", "11.2 mg/dL")
        assert (value.flag, value.reference_interval.high, value.used) == ("high", 5.0, True)
        assert [(one.kind, one.text) for one in found.notes] == [("history", "Cough.")]
        refused(await client.get(f"{PATH}/{study.study_id}/images/1"), 404)
        refused(await client.get(f"{PATH}/{study.study_id}/images/x"), 422)

    serve(scenario, studies=True)


def test_words_come_as_differences_where_that_is_set_and_asked_for() -> None:
    async def scenario(client: Client, _: FakeModel) -> None:
        study = await submitted(client, form(film()))
        await ended(client, study)
        place = f"{PATH}/{study.study_id}/images/0"
        plain = await client.get(place, headers={"Accept-Encoding": "identity"})
        assert plain.headers["Consilium-Encoding"] == "raw"
        async with client.stream("GET", place, headers={"Accept-Encoding": "gzip"}) as answer:
            assert (answer.headers["Consilium-Encoding"], answer.headers["Content-Encoding"]) == ("delta", "gzip")
            sent = b"".join([piece async for piece in answer.aiter_raw()])
        assert len(sent) < len(plain.content)
        delta = np.frombuffer(gzip.decompress(sent), "<u2").reshape(48, 64)
        assert np.cumsum(delta, axis=1, dtype=np.uint16).tobytes() == plain.content

    serve(scenario, studies=True, studies_compressed=True)


def test_the_answer_is_hidden_until_the_reader_has_read_the_study_himself(embedded_audit_log: Path) -> None:
    async def scenario(client: Client, _: FakeModel) -> None:
        one, other = (caller(client, name, Scope.DIAGNOSE, groups=("chest",)) for name in ("key:a", "key:b"))
        study = await submitted(one, form(png(200)))
        found = await ended(one, study)
        assert (found.reading.policy, found.reading.may_see_answer, found.called) == ("after_first_read", False, None)
        assert [one.name for one in found.reading.findings] == ["pneumonia", "pneumothorax"]
        place = f"{PATH}/{study.study_id}/answer"
        assert refused(await one.get(place), 409)["type"] == "urn:consilium:problem:not-yet-readable"
        refused(await one.post(f"{PATH}/{study.study_id}/reads", json=FIRST | {"kind": "revised"}), 422)

        first = await read(one, study)
        assert (first.kind, first.influenced, first.caller) == ("first", False, "key:a")
        answer = ExplanationAnswer.model_validate_json((await one.get(place)).text)
        maps = [part.map for finding in answer.explanations for part in finding.parts["image"]]
        assert {one.scale for one in maps} == {2.0}
        assert refused(await one.post(f"{PATH}/{study.study_id}/reads", json=FIRST), 422)["field"] == "kind"
        revised = await read(one, study, kind="revised", findings={"pneumonia": "unknown"})
        assert revised.influenced
        state = (await seen(one, study)).reading
        assert (state.first_read, state.revised_read) == (first, revised)
        assert state.revealed is not None
        assert (await seen(one, study)).called == ("Pneumonia", "Pneumothorax")

        refused(await other.get(place), 409)
        hidden = await seen(other, study)
        assert (hidden.called, hidden.reading.others, hidden.read) == (None, (), "revised")
        assert not (await read(other, study)).influenced, "whoever has not seen the answer is not influenced by it"

        admin = caller(client, "key:admin", Scope.ADMIN)
        result = (await admin.get(f"/v1/results/{answer.result_id}")).json()
        assert [(one["finding"], one["state"], one["influenced"]) for one in result["feedback"]] == [
            ("pneumonia", "present", False),
            ("pneumothorax", "absent", False),
            ("pneumonia", "unknown", True),
            ("pneumonia", "present", False),
            ("pneumothorax", "absent", False),
        ]
        views = (await client.get(f"/v1/reads/views/{study.study_id}")).text.splitlines()
        whats = [(one.what, one.caller) for one in map(ViewAnswer.model_validate_json, views)]
        assert ("answer", "key:a") in whats
        assert ("answer", "key:b") not in whats

    serve(scenario, studies=True)
    assert len(rows(embedded_audit_log, "study_reads")) == 3


@pytest.mark.parametrize(("policy", "influenced"), [("on_demand", True), ("at_once", True)])
def test_who_has_seen_the_answer_first_is_influenced(policy: str, influenced: bool) -> None:
    async def scenario(client: Client, _: FakeModel) -> None:
        study = await submitted(client, form(png(200)))
        found = await ended(client, study)
        assert found.reading.may_see_answer
        assert found.called == (None if policy == "on_demand" else ("Pneumonia", "Pneumothorax"))
        assert (await client.get(f"{PATH}/{study.study_id}/answer")).status_code == 200
        assert (await read(client, study)).influenced is influenced

    serve(scenario, studies=True, studies_answer=policy)


def test_on_demand_a_read_before_the_answer_was_asked_for_is_not_influenced() -> None:
    async def scenario(client: Client, _: FakeModel) -> None:
        study = await submitted(client, form(png(200)))
        await ended(client, study)
        assert not (await read(client, study)).influenced
        assert (await seen(client, study)).called is None

    serve(scenario, studies=True, studies_answer="on_demand")


def test_a_study_can_be_read_before_it_is_answered(embedded_audit_log: Path) -> None:
    async def scenario(client: Client, model: FakeModel) -> None:
        release, explain = asyncio.Event(), model.explain_prepared
        loop = asyncio.get_running_loop()

        def wait(*given: Any, **more: Any) -> Any:
            asyncio.run_coroutine_threadsafe(release.wait(), loop).result(PATIENCE_S)
            return explain(*given, **more)

        model.explain_prepared = wait  # type: ignore[method-assign]
        study = await submitted(client, form(png(200)))
        while not (found := await seen(client, study)).images:
            await asyncio.sleep(0.01)
        assert found.state == "running"
        assert (await client.get(f"{PATH}/{study.study_id}/images/0")).status_code == 200
        refused(await client.get(f"{PATH}/{study.study_id}/answer"), 409)
        await read(client, study)
        release.set()
        await ended(client, study)
        (line,) = (await client.get("/v1/reads")).text.splitlines()
        kept = ReadAnswer.model_validate_json(line)
        result = (await client.get(f"/v1/results/{kept.result_id}")).json()
        assert [one["state"] for one in result["feedback"]] == ["present", "absent"]

    serve(scenario, studies=True)
    assert rows(embedded_audit_log, "study_chunks")[0][1] == "images[0]", "what was sent is deleted once it is answered"


def test_the_worklist_is_filtered_sorted_searched_and_paged() -> None:
    async def scenario(client: Client, _: FakeModel) -> None:
        studies = [await submitted(client, form(film(), text="x" * n)) for n in (1, 2)]
        broken = await submitted(client, form(b"%PDF-1.7"))
        for one in (*studies, broken):
            await ended(client, one)
        await read(client, studies[0])

        async def listed(**query: Any) -> StudyList:
            return StudyList.model_validate_json((await client.get(PATH, params=query)).text)

        ids = [str(one.study_id) for one in (broken, *reversed(studies))]
        everything = await listed()
        assert [str(one.study_id) for one in everything.studies] == ids
        refusal = everything.studies[0]
        assert (refusal.state, refusal.patient) == ("refused", None)
        assert refusal.problem is not None
        assert refusal.problem.field == "images[0]"
        assert [str(one.study_id) for one in (await listed(state="waiting")).studies] == ids[1:2]
        assert [str(one.study_id) for one in (await listed(state="read")).studies] == ids[2:]
        assert [str(one.study_id) for one in (await listed(state="refused")).studies] == ids[:1]
        assert (await listed(state="referred")).total == 2
        page = await listed(limit=2)
        assert (page.total, len(page.studies), page.next) == (3, 2, ids[1])
        assert [str(one.study_id) for one in (await listed(after=page.next)).studies] == ids[2:]
        assert refused(await client.get(PATH, params={"search": "quill"}), 422)["field"] == "search"
        found = await client.post(f"{PATH}/search", json={"search": "zara"})
        assert StudyList.model_validate_json(found.text).total == 2
        assert (
            StudyList.model_validate_json((await client.post(f"{PATH}/search", json={"search": "roe"})).text).total == 0
        )
        found = await client.post(f"{PATH}/search", json={"patient_id": "Zq17"})
        assert [str(one.study_id) for one in StudyList.model_validate_json(found.text).studies] == ids[1:]
        assert (await client.post(f"{PATH}/search", json={"patient_id": "zq17"})).json()["total"] == 0
        assert refused(await client.post(f"{PATH}/search", json={"patient_id": " "}), 422)["field"] == "patient_id"
        refused(await client.get(PATH, params={"sort": "priority"}), 422)
        refused(await client.get(PATH, params={"limit": "0"}), 422)
        assert {one.priority for one in everything.studies} == {None}

    serve(scenario, studies=True)


def test_a_page_goes_on_after_a_study_that_has_left_the_filter_meanwhile() -> None:
    async def scenario(client: Client, _: FakeModel) -> None:
        studies = [await submitted(client, form(png(grey))) for grey in (9, 99, 199)]
        for one in studies:
            await ended(client, one)
        found = []
        for sort in ("created", "studied"):
            query: dict[str, Any] = {"state": "waiting", "sort": sort, "limit": 1}
            first = StudyList.model_validate_json((await client.get(PATH, params=query)).text)
            await read(client, first.studies[0])
            rest = StudyList.model_validate_json((await client.get(PATH, params=query | {"after": first.next})).text)
            found.append([one.study_id for one in (*first.studies, *rest.studies)])
        ids = [one.study_id for one in reversed(studies)]
        assert found == [ids[:2], ids[1:]]
        unknown = {"after": "00000000-0000-0000-0000-000000000000"}
        for sort in ("created", "studied"):
            assert refused(await client.get(PATH, params=unknown | {"sort": sort}), 422)["field"] == "after"
        as_it_came = (await client.get(PATH)).json()["studies"]
        assert [one["study_id"] for one in as_it_came] == [str(one) for one in ids], "whatever its priority"

    serve(scenario, studies=True, studies_priority=True)


def test_priority_is_the_highest_probability_and_more_where_a_physician_must_look() -> None:
    async def scenario(client: Client, _: FakeModel) -> None:
        studies = [await submitted(client, form(png(grey))) for grey in (204, 51)]
        for one in studies:
            await ended(client, one)
        found = StudyList.model_validate_json((await client.get(PATH, params={"sort": "priority"})).text)
        assert [one.study_id for one in found.studies] == [one.study_id for one in studies]
        assert [one.priority for one in found.studies] == [pytest.approx(1.8), pytest.approx(1.2)]

    serve(scenario, studies=True, studies_priority=True)


def test_another_group_s_study_is_not_there_and_an_admin_sees_all() -> None:
    async def scenario(client: Client, _: FakeModel) -> None:
        router = caller(client, "key:router", Scope.DIAGNOSE, groups=("chest",))
        mine = caller(client, "oidc:ann", Scope.DIAGNOSE, groups=("chest", "bone"))
        other = caller(client, "oidc:bob", Scope.DIAGNOSE, groups=("bone",))
        alone = caller(client, "oidc:eve", Scope.DIAGNOSE)
        study = await submitted(router, form(film()))
        await ended(router, study)
        place = f"{PATH}/{study.study_id}"
        assert (await mine.get(f"{place}/images/0")).status_code == 200
        for stranger in (other, alone):
            for path in ("", "/images/0", "/answer"):
                assert refused(await stranger.get(place + path), 404)["type"].endswith("no-such-study")
            refused(await stranger.post(f"{place}/reads", json=FIRST), 404)
            refused(await stranger.post(f"{place}/flags", json={"reason": "disagreement"}), 404)
            refused(await stranger.delete(place), 404)
            assert (await stranger.get(PATH)).json()["total"] == 0
        assert (await seen(caller(client, "key:admin", Scope.ADMIN), study)).state == "answered"
        assert (await mine.delete(place)).status_code == 204
        refused(await router.get(place), 404)

    serve(scenario, studies=True)


def test_earlier_studies_of_the_patient_are_its_priors() -> None:
    async def scenario(client: Client, _: FakeModel) -> None:
        earlier = await submitted(client, form(film(AcquisitionDate="20230101")))
        stranger = await submitted(client, form(film(PatientID="other")))
        latest = await submitted(client, form(film()))
        for one in (earlier, stranger):
            await ended(client, one)
        found = await ended(client, latest)
        assert [(one.study_id, one.image_count) for one in found.priors] == [(earlier.study_id, 1)]
        assert (await seen(client, earlier)).priors == ()
        issued = [await submitted(client, form(film(IssuerOfPatientID=one, StudyInstanceUID=one))) for one in "12"]
        for one in issued:
            await ended(client, one)
        assert {one.study_id for one in (await seen(client, issued[0])).priors} == {
            earlier.study_id,
            latest.study_id,
        }, "the same id of another issuer is another patient's"

    serve(scenario, studies=True)


def test_nothing_that_names_the_patient_lies_open_or_is_logged(
    embedded_audit_log: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)

    async def scenario(client: Client, _: FakeModel) -> None:
        study = await submitted(client, form(film(), text="Seen by Dr Wexford.", caller_reference="Zq17-ref"))
        await ended(client, study)
        await read(client, study)
        await client.get(f"{PATH}/{study.study_id}/images/0")
        await client.get(f"{PATH}/{study.study_id}/answer")
        await client.post(f"{PATH}/search", json={"search": "zara"})
        broken = await client.post(f"{PATH}/search", json={"search": "zara", "Quill": 1})
        assert broken.status_code == 422
        metrics = (await client.get("/metrics")).text
        for name in ("Quill", "Zara", "Zq17", "Wexford"):
            assert name not in metrics

    serve(scenario, studies=True)
    stored = everything_stored(embedded_audit_log)
    assert hashlib.sha256(b"Zq17").hexdigest().encode() not in stored
    for name in ("Quill", "Zara", "Zq17", "Wexford"):
        assert name.encode() not in stored
        assert name not in caplog.text
    assert ramp().astype("<u2").tobytes()[:64] not in stored


def test_a_deleted_study_leaves_its_reads_and_views_and_nothing_else(embedded_audit_log: Path) -> None:
    async def scenario(client: Client, _: FakeModel) -> None:
        study = await submitted(client, form(film()))
        await ended(client, study)
        await read(client, study)
        flag = await client.post(
            f"{PATH}/{study.study_id}/flags", json={"reason": "model_error", "finding": "pneumonia"}
        )
        assert flag.status_code == 201
        refused(await client.post(f"{PATH}/{study.study_id}/flags", json={"reason": "other"}), 422)
        assert [one.reason for one in (await seen(client, study)).reading.flags] == ["model_error"]
        assert (await client.delete(f"{PATH}/{study.study_id}")).status_code == 204
        refused(await client.delete(f"{PATH}/{study.study_id}"), 404)

    serve(scenario, studies=True)
    assert rows(embedded_audit_log, "studies") == rows(embedded_audit_log, "study_chunks") == []
    assert [len(rows(embedded_audit_log, table)) for table in ("study_reads", "study_flags")] == [1, 1]
    assert rows(embedded_audit_log, "study_views")


def test_pixels_go_before_the_study_and_the_study_in_its_time(embedded_audit_log: Path) -> None:
    async def scenario(client: Client, _: FakeModel) -> None:
        study = await submitted(client, form(film()))
        await ended(client, study)
        with sqlite3.connect(embedded_audit_log / "audit-log.db") as database:
            database.execute("UPDATE studies SET pixels_until = '2020-01-01 00:00:00.000000'")
        while rows(embedded_audit_log, "study_chunks"):
            await asyncio.sleep(0.01)
        assert (await seen(client, study)).images[0].pixels == "expired"
        refused(await client.get(f"{PATH}/{study.study_id}/images/0"), 404)
        with sqlite3.connect(embedded_audit_log / "audit-log.db") as database:
            database.execute("UPDATE studies SET expires = '2020-01-01 00:00:00.000000'")
        refused(await client.get(f"{PATH}/{study.study_id}"), 404)
        while rows(embedded_audit_log, "studies"):
            await asyncio.sleep(0.01)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lease_worker, "_PURGE_EVERY_S", 0.02)
        serve(scenario, studies=True)


def test_an_idempotency_key_gives_the_same_study_again() -> None:
    async def scenario(client: Client, _: FakeModel) -> None:
        key = {"Idempotency-Key": "one"}
        one = await client.post(PATH, files=form(png(9)), headers=key)
        again = await client.post(PATH, files=form(png(9)), headers=key)
        assert (again.content, again.headers["Idempotent-Replayed"]) == (one.content, "true")
        refused(await client.post(PATH, files=form(png(8)), headers=key), 422)
        assert (await client.get(PATH)).json()["total"] == 1

    serve(scenario, studies=True)


def test_over_the_quota_and_while_it_is_off_no_study_is_taken() -> None:
    async def full(client: Client, _: FakeModel) -> None:
        refused(await client.post(PATH, files=form(film())), 503)

    async def off(client: Client, _: FakeModel) -> None:
        refused(await client.post(PATH, files=form(film())), 404)
        refused(await client.get(PATH), 404)

    serve(full, studies=True, studies_bytes=1000)
    serve(off)


def test_a_study_at_which_the_model_fails_is_refused_after_a_few_attempts() -> None:
    async def scenario(client: Client, model: FakeModel) -> None:
        def fail(*_: Any, **__: Any) -> Any:
            raise ValueError("this message holds Jane Roe")

        model.explain_prepared = fail  # type: ignore[method-assign]
        found = await ended(client, await submitted(client, form(png(9), text=POISON)))
        assert (found.state, found.problem is not None and found.problem.status) == ("refused", 500)
        assert [one.pixels for one in found.images] == ["expired"]
        refused(await client.get(f"{PATH}/{found.study_id}/images/0"), 404)
        assert "Roe" not in found.model_dump_json()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lease_worker, "_RETRY_S", 0.01)
        serve(scenario, studies=True)


def test_operations_count_answers_and_how_readers_agree() -> None:
    async def scenario(client: Client, _: FakeModel) -> None:
        study = await submitted(client, form(png(200)))
        await ended(client, study)
        await read(client, study)
        found = json.loads((await client.get("/v1/operations")).text)
        assert found["agreement"] == [
            {"finding": "pneumonia", "reads": 1, "agree": 1},
            {"finding": "pneumothorax", "reads": 1, "agree": 0},
        ]
        assert [(one["answers"], one["referred"], one["out_of_distribution"]) for one in found["days"]] == [
            (1, 1.0, 0.0)
        ]
        (version,) = found["versions"]
        assert (version["model"], version["version"], version["role"], version["answers"]) == (
            *("consilium-fake", "7", "serving", 1),
        )
        assert found["queue"] == {"diagnoses": 0, "explanations": 0, "studies": 0, "jobs": 0}
        assert {"explain", "prepare"} <= {one["stage"] for one in found["stages"]}

    serve(scenario, studies=True)
