from __future__ import annotations

import asyncio
import gzip
import io
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import numpy as np
import pytest
from pydicom.data import get_testdata_file
from pydicom.filereader import dcmread
from sqlalchemy import create_engine, event, text

from consilium.api.schemas import DiagnosisAnswer, FeedbackAnswer, ResultAnswer
from consilium.modalities.image.files.dicom_image import identifier_digest
from service.app.lifecycle import Lifecycle
from service.app.routes import create_app
from service.audit_log.database import read_url
from service.audit_log.pseudonyms import Kind, read_keys
from service.scopes import Scope
from service.settings import Settings
from tests.patience import PATIENCE_S
from tests.service.callers import caller
from tests.service.fakes import FakeModel

Client = httpx.AsyncClient
NAME, PATIENT, STUDY_UID = "Roe^Jane^Quill", "MRN-0815-4711", "1.2.826.0.1.3680043.8.498.555666777"


@asynccontextmanager
async def service(model: FakeModel, **settings: Any) -> AsyncIterator[Client]:
    """The application, with `model` behind it and no server between."""
    lifecycle = Lifecycle(Settings(model="fake", **settings), lambda _: model)
    app = create_app()
    await lifecycle.start()
    model.batches.clear()
    model.entered.clear()
    app.state.lifecycle = lifecycle
    try:
        async with Client(transport=httpx.ASGITransport(app), base_url="http://service") as client:
            yield client
    finally:
        model.hold.set()
        await lifecycle.stop()


def run(scenario: Callable[[Client, FakeModel], Awaitable[None]], **settings: Any) -> None:
    async def go() -> None:
        model = FakeModel()
        async with service(model, **settings) as client:
            await scenario(client, model)

    asyncio.run(asyncio.wait_for(go(), PATIENCE_S))


def note(words: str, **more: Any) -> dict[str, Any]:
    request = {"notes": [{"kind": "history", "text": words}]} | more
    return {"request": (None, json.dumps(request), "application/json")}


def film() -> bytes:
    """A small DICOM file that names a patient."""
    dataset = dcmread(get_testdata_file("CT_small.dcm"))
    dataset.PatientName, dataset.PatientID, dataset.PatientBirthDate = NAME, PATIENT, "19500102"
    dataset.StudyInstanceUID = STUDY_UID
    dataset.PixelData = np.full((128, 128), 40, np.int16).tobytes()
    data = io.BytesIO()
    dataset.save_as(data)
    return data.getvalue()


def keyed(value: str) -> dict[str, str]:
    return {"Idempotency-Key": value}


def test_an_answer_is_recorded_under_the_id_it_carries(url: str, key_file: Path) -> None:
    async def scenario(client: Client, _: FakeModel) -> None:
        parts = [("images", ("a", film())), *note("Cough.", caller_reference="order-17").items()]
        answers = [await client.post(f"/v1/{door}", files=parts) for door in ("diagnose", "explain")]
        for door, answer in zip(("diagnose", "explain"), answers, strict=True):
            assert answer.status_code == 200, answer.text
            parsed = DiagnosisAnswer.model_validate({k: answer.json()[k] for k in DiagnosisAnswer.model_fields})
            found = await client.get(f"/v1/results/{parsed.result_id}")
            assert found.status_code == 200, found.text
            row = ResultAnswer.model_validate_json(found.text)
            assert (row.result_id, row.endpoint, row.caller) == (parsed.result_id, door, "anonymous")
            assert row.model == parsed.model
            assert [one.probability for one in row.findings] == [one.probability for one in parsed.findings]
            assert row.input_digests["images[0]"] == f"sha256:{parsed.input_digests['images[0]']}"
            assert parsed.input_digests["notes[0]"] not in found.text
            newest = read_keys(key_file).newest
            assert row.pseudonyms.patient == newest.pseudonym(Kind.PATIENT, str(identifier_digest(PATIENT)))
            assert row.pseudonyms.caller_reference == newest.pseudonym(Kind.REFERENCE, "order-17")
            assert {"decode", "prepare", door} <= set(row.latencies_ms)
            assert all(value >= 0 for value in row.latencies_ms.values())
        assert answers[0].json()["result_id"] != answers[1].json()["result_id"]

    run(scenario, audit_log_url=url, audit_log_keys=key_file)


def test_what_was_answered_to_another_caller_is_shown_to_an_administrator_alone() -> None:
    async def scenario(client: Client, _: FakeModel) -> None:
        own = caller(client, "key:a", Scope.READ, Scope.DIAGNOSE)
        other = caller(client, "key:b", Scope.READ, Scope.DIAGNOSE, Scope.METRICS)
        admin = caller(client, "key:c", Scope.READ, Scope.ADMIN)
        result_id = (await own.post("/v1/diagnose", files=note("Cough."))).json()["result_id"]
        shown = await own.get(f"/v1/results/{result_id}")
        assert (shown.status_code, shown.json()["caller"]) == (200, "key:a")
        assert (await admin.get(f"/v1/results/{result_id}")).content == shown.content
        hidden, missing = [await other.get(f"/v1/results/{one}") for one in (result_id, uuid4())]
        for answer in (hidden, missing):
            assert answer.status_code == 404
            assert answer.json()["rule"] == "must be the id of a recorded answer", "there or not: the same"

    run(scenario)


def test_a_refused_request_leaves_no_row(url: str, key_file: Path) -> None:
    async def scenario(client: Client, _: FakeModel) -> None:
        assert (await client.post("/v1/diagnose", files=note("unprepared"))).status_code == 422

    run(scenario, audit_log_url=url, audit_log_keys=key_file)
    with create_engine(read_url(url)).connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM results")) == 0


def test_the_diagnoses_of_one_batch_are_one_transaction(tmp_path: Path) -> None:
    transactions: list[int] = []

    async def go() -> None:
        model = FakeModel()
        lifecycle = Lifecycle(Settings(model="fake", batch_wait_ms=500, batch_size=4), lambda _: model)
        app = create_app()
        await lifecycle.start()
        model.batches.clear()
        app.state.lifecycle = lifecycle
        store = lifecycle.engine.recorder.opened
        commit = store.commit

        def counted(entries: Any, replay_s: float) -> Any:
            transactions.append(len(entries))
            return commit(entries, replay_s)

        store.commit = counted  # type: ignore[method-assign]
        async with Client(transport=httpx.ASGITransport(app), base_url="http://service") as client:
            answers = await asyncio.gather(*[client.post("/v1/diagnose", files=note("x" * n)) for n in range(1, 5)])
        await lifecycle.stop()
        assert [answer.status_code for answer in answers] == [200] * 4
        assert model.batches == [4]

    asyncio.run(asyncio.wait_for(go(), PATIENCE_S))
    assert transactions == [4]


def test_feedback_is_found_with_the_result(url: str, key_file: Path) -> None:
    async def scenario(client: Client, _: FakeModel) -> None:
        result_id = (await client.post("/v1/diagnose", files=note("Cough."))).json()["result_id"]
        for state in ("unknown", "present"):
            sent = {"result_id": result_id, "findings": {"pneumonia": state}}
            answer = await client.post("/v1/feedback", json=sent)
            assert answer.status_code == 201, answer.text
            assert FeedbackAnswer.model_validate_json(answer.text).result_id == UUID(result_id)
        row = ResultAnswer.model_validate_json((await client.get(f"/v1/results/{result_id}")).text)
        assert [(one.finding, one.state, one.caller) for one in row.feedback] == [
            ("pneumonia", "unknown", "anonymous"),
            ("pneumonia", "present", "anonymous"),
        ]

    run(scenario, audit_log_url=url, audit_log_keys=key_file)


BAD_FEEDBACK: list[tuple[dict[str, Any], int, str | None]] = [
    ({"json": {"result_id": str(uuid4()), "findings": {"pneumonia": "present"}}}, 404, "result_id"),
    ({"json": {"result_id": "7", "findings": {"pneumonia": "present"}}}, 422, "result_id"),
    ({"json": {"findings": {"pneumonia": "present"}}}, 422, "result_id"),
    ({"json": {"result_id": str(uuid4()), "findings": {}}}, 422, "findings"),
    ({"json": {"result_id": str(uuid4()), "findings": {"pneumonia": "Jane Roe has it"}}}, 422, "findings.pneumonia"),
    (
        {"json": {"result_id": str(uuid4()), "findings": {"pneumonia": "absent"}, "comment": "Jane Roe"}},
        422,
        "request",
    ),
    ({"content": b"{", "headers": {"Content-Type": "application/json"}}, 400, "request"),
    ({"content": b"{}", "headers": {"Content-Type": "text/plain"}}, 415, "Content-Type"),
    ({"content": b"x" * 70_000, "headers": {"Content-Type": "application/json"}}, 413, "body"),
]


def test_bad_feedback_and_unknown_results_are_problems() -> None:
    async def scenario(client: Client, _: FakeModel) -> None:
        for sent, status, field in BAD_FEEDBACK:
            answer = await client.post("/v1/feedback", **sent)
            assert (answer.status_code, answer.json()["field"]) == (status, field), answer.text
            assert answer.headers["content-type"] == "application/problem+json"
        result_id = (await client.post("/v1/diagnose", files=note("Cough."))).json()["result_id"]
        right = json.dumps({"result_id": result_id, "findings": {"pneumonia": "absent"}}).encode()
        kinds = ["APPLICATION/JSON", 'application/json; charset="utf-8"', "application/json ;charset=UTF-8"]
        for kind in kinds:
            kept = await client.post("/v1/feedback", content=right, headers={"Content-Type": kind})
            assert kept.status_code == 201, kept.text
        for body, encoding in ((gzip.compress(right), "gzip"), (right, "br")):
            headers = {"Content-Type": "application/json", "Content-Encoding": encoding}
            encoded = await client.post("/v1/feedback", content=body, headers=headers)
            assert (encoded.status_code, encoded.json()["field"]) == (415, "Content-Encoding")
        wrong = await client.post("/v1/feedback", json={"result_id": result_id, "findings": {"pneumonai": "absent"}})
        assert (wrong.status_code, wrong.json()["field"]) == (422, "findings")
        for asked, status in ((str(uuid4()), 404), ("Jane", 422)):
            answer = await client.get(f"/v1/results/{asked}")
            assert (answer.status_code, answer.json()["field"]) == (status, "result_id")
            assert answer.headers["content-type"] == "application/problem+json"

    run(scenario)


def test_the_same_key_and_body_get_the_same_bytes_from_any_process(url: str, key_file: Path) -> None:
    async def go() -> None:
        models = FakeModel(), FakeModel()
        shared = {"audit_log_url": url, "audit_log_keys": key_file}
        async with service(models[0], **shared) as one, service(models[1], **shared) as other:
            sent = note("Cough.", caller_reference="Zürich-1")
            first = await one.post("/v1/diagnose", files=sent, headers=keyed("k1"))
            assert first.status_code == 200, first.text
            assert "Idempotent-Replayed" not in first.headers
            for client in (one, other):
                again = await client.post("/v1/diagnose", files=sent, headers=keyed("k1"))
                assert (again.status_code, again.content) == (200, first.content)
                assert again.headers["Idempotent-Replayed"] == "true"
                assert again.headers["content-type"] == "application/json"
                changed = await client.post("/v1/diagnose", files=note("Cough!"), headers=keyed("k1"))
                assert changed.status_code == 422
                assert changed.json()["type"] == "urn:consilium:problem:idempotency-mismatch"
                assert changed.json()["field"] == "Idempotency-Key"
                more = await client.post(
                    "/v1/diagnose", files=[("images", ("a", film())), *sent.items()], headers=keyed("k1")
                )
                assert more.status_code == 422
            assert models[1].batches == []
            fresh = await other.post("/v1/diagnose", files=sent, headers=keyed("k2"))
            assert fresh.json()["result_id"] != first.json()["result_id"]
            unkeyed = [await one.post("/v1/diagnose", files=sent) for _ in range(2)]
            assert len({answer.json()["result_id"] for answer in unkeyed}) == 2

    asyncio.run(asyncio.wait_for(go(), PATIENCE_S))


def test_a_second_request_with_the_key_is_409_while_the_first_is_answered(url: str, key_file: Path) -> None:
    async def go() -> None:
        models = FakeModel(), FakeModel()
        shared = {"audit_log_url": url, "audit_log_keys": key_file}
        async with service(models[0], **shared) as one, service(models[1], **shared) as other:
            models[0].hold.clear()
            first = asyncio.create_task(one.post("/v1/diagnose", files=note("Cough."), headers=keyed("k")))
            await asyncio.to_thread(models[0].entered.wait, PATIENCE_S)
            second = await other.post("/v1/diagnose", files=note("Cough."), headers=keyed("k"))
            assert (second.status_code, second.json()["type"]) == (409, "urn:consilium:problem:conflict")
            assert int(second.headers["Retry-After"]) > 0
            models[0].hold.set()
            third = await other.post("/v1/diagnose", files=note("Cough."), headers=keyed("k"))
            while third.status_code == 409:
                third = await other.post("/v1/diagnose", files=note("Cough."), headers=keyed("k"))
            assert third.content == (await first).content

    asyncio.run(asyncio.wait_for(go(), PATIENCE_S))


def test_a_request_that_failed_gives_its_key_back() -> None:
    async def scenario(client: Client, model: FakeModel) -> None:
        refused = await client.post("/v1/diagnose", files=note("unprepared"), headers=keyed("k"))
        assert refused.status_code == 422
        late = note("Cough.")
        model.hold.clear()
        assert (await client.post("/v1/diagnose", files=late, headers=keyed("k"))).status_code == 504
        model.hold.set()
        answer = await client.post("/v1/diagnose", files=note("Fever."), headers=keyed("k"))
        assert answer.status_code == 200, answer.text

    run(scenario, answer_timeout_s=0.5)


@pytest.mark.parametrize("key", ["", "x" * 256, "a\tb"])
def test_a_key_that_is_none_is_refused(key: str) -> None:
    async def scenario(client: Client, _: FakeModel) -> None:
        answer = await client.post("/v1/diagnose", files=note("Cough."), headers=keyed(key))
        assert (answer.status_code, answer.json()["field"]) == (422, "Idempotency-Key")

    run(scenario)


def test_explanations_know_no_idempotency_keys() -> None:
    async def scenario(client: Client, _: FakeModel) -> None:
        answers = [await client.post("/v1/explain", files=note("Cough."), headers=keyed("k")) for _ in range(2)]
        assert len({answer.json()["result_id"] for answer in answers}) == 2

    run(scenario)


@asynccontextmanager
async def locked(path: Path) -> AsyncIterator[None]:
    """Somebody else holds the SQLite file, as a backup that hangs would."""
    engine = create_engine(f"sqlite:///{path}")

    @event.listens_for(engine, "connect")
    def connect(connection: Any, _: object) -> None:
        connection.isolation_level = None

    with engine.connect() as connection:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        yield
        connection.exec_driver_sql("ROLLBACK")
    engine.dispose()


def test_while_the_audit_log_is_down_nothing_is_answered(embedded_audit_log: Path) -> None:
    async def scenario(client: Client, _: FakeModel) -> None:
        result_id = (await client.post("/v1/diagnose", files=note("Cough."))).json()["result_id"]
        async with locked(embedded_audit_log / "audit-log.db"):
            feedback = {"result_id": result_id, "findings": {"pneumonia": "absent"}}
            for answer in (
                await client.post("/v1/diagnose", files=note("Cough.")),
                await client.post("/v1/explain", files=note("Cough.")),
                await client.post("/v1/diagnose", files=note("Cough."), headers=keyed("k")),
                await client.post("/v1/feedback", json=feedback),
            ):
                assert answer.status_code == 503, answer.text
                assert answer.headers["Retry-After"] == "3"
                assert answer.json()["detail"] == "The audit log is unavailable."
        assert (await client.post("/v1/diagnose", files=note("Cough."), headers=keyed("k"))).status_code == 200

    run(scenario, audit_log_timeout_s=0.2, retry_after_s=3)


def test_where_answers_need_not_be_recorded_they_carry_no_result_id(embedded_audit_log: Path) -> None:
    async def scenario(client: Client, _: FakeModel) -> None:
        async with locked(embedded_audit_log / "audit-log.db"):
            answer = await client.post("/v1/diagnose", files=note("Cough."))
            assert (answer.status_code, answer.json()["result_id"]) == (200, None)
            promised = await client.post("/v1/diagnose", files=note("Cough."), headers=keyed("k"))
            assert promised.status_code == 503, "the same answer again could not be given"
        assert (await client.post("/v1/diagnose", files=note("Cough."))).json()["result_id"] is not None

    run(scenario, audit_log_timeout_s=0.2, audit_log_required=False)


def test_nothing_that_names_a_patient_is_in_the_files(embedded_audit_log: Path) -> None:
    words = "Roe, Jane Quill, born 1950-01-02, coughs."
    digests: list[str] = []

    async def scenario(client: Client, _: FakeModel) -> None:
        sent = note(words, caller_reference=NAME)
        headers = keyed(NAME) | {"X-Request-Id": "Roe-Jane-Quill"}
        answer = await client.post(
            "/v1/diagnose", files=[("images", (NAME, film())), *sent.items()], headers=headers, params={"p": NAME}
        )
        assert answer.status_code == 200, answer.text
        assert NAME in answer.text, "the reference comes back"
        digests.extend(answer.json()["input_digests"][part] for part in ("notes[0]",))
        explained = await client.post("/v1/explain", files=sent)
        assert explained.status_code == 200
        result_id = answer.json()["result_id"]
        await client.post("/v1/feedback", json={"result_id": result_id, "findings": {"pneumonia": NAME}})
        held = b"".join(path.read_bytes() for path in embedded_audit_log.glob("audit-log.db*"))
        assert UUID(result_id).hex.encode() in held
        planted = [NAME, "Quill", PATIENT, STUDY_UID, "1950-01-02", "19500102", "coughs", *digests]
        planted += [str(identifier_digest(PATIENT)), str(identifier_digest(STUDY_UID))]
        assert [word for word in planted if word.encode() in held] == []

    run(scenario)
