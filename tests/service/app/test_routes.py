from __future__ import annotations

import asyncio
import base64
import gc
import hashlib
import io
import json
import logging
import pickle
import re
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, cast

import httpx
import numpy as np
import pytest
from PIL import Image as Picture
from starlette.requests import ClientDisconnect, Request

from consilium.api.schemas import DiagnosisAnswer, ExplanationAnswer, ModelInformation
from consilium.configuration.recipe import Recipe
from consilium.domain.study import Study
from consilium.modalities.image.letterbox import SquareConverter
from service.app.lifecycle import Lifecycle
from service.app.routes import create_app
from service.http.deadlines import while_connected
from service.http.multipart import Form
from service.serving.engine import Model
from service.settings import Settings
from tests.patience import PATIENCE_S, until_async
from tests.service.fakes import POISON, FakeModel

Client = httpx.AsyncClient
Scenario = Callable[[Client, FakeModel], Awaitable[None]]


def serve(scenario: Scenario, model: FakeModel | None = None, **settings: Any) -> FakeModel:
    """Run `scenario` against the application, with `model` or a `FakeModel` behind it and no server between."""
    model = model or FakeModel()

    async def go() -> None:
        def load(_: Settings) -> Model:
            return model

        app = create_app()
        lifecycle = Lifecycle(Settings(model="fake", **settings), load, app.state.metrics)
        await lifecycle.start()
        model.batches.clear()
        model.entered.clear()
        app.state.lifecycle = lifecycle
        try:
            transport = httpx.ASGITransport(app, raise_app_exceptions=True)
            async with Client(transport=transport, base_url="http://service") as client:
                await scenario(client, model)
        finally:
            model.hold.set()
            await lifecycle.stop()

    asyncio.run(asyncio.wait_for(go(), PATIENCE_S))
    return model


def request(**parts: Any) -> dict[str, Any]:
    return {"request": (None, json.dumps(parts), "application/json")}


def note(text: str, **more: Any) -> dict[str, Any]:
    return request(notes=[{"kind": "history", "text": text}], **more)


def png(grey: int, size: tuple[int, int] = (40, 30)) -> bytes:
    data = io.BytesIO()
    Picture.fromarray(np.full(size, grey, np.uint8)).save(data, "PNG")
    return data.getvalue()


def refused(answer: httpx.Response, status: int) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    assert body["status"] == status
    return body


def test_an_image_and_a_note_are_diagnosed_and_the_reference_echoed() -> None:
    async def scenario(client: Client, _: FakeModel) -> None:
        parts = [("images", ("no.matter", png(51), "text/html")), *note("Cough.", caller_reference="Zürich-1").items()]
        answer = await client.post("/v1/diagnose", files=parts)
        assert answer.status_code == 200, answer.text
        parsed = DiagnosisAnswer.model_validate_json(answer.text)
        assert [finding.probability for finding in parsed.findings] == [pytest.approx(0.2, abs=1e-6)] * 2
        assert parsed.caller_reference == "Zürich-1"
        assert parsed.model.version == "7"
        assert set(parsed.input_digests) == {"images[0]", "notes[0]"}
        assert "images[0]: view position unknown" in parsed.warnings
        assert parsed.findings[0].interval == (pytest.approx(0.1, abs=1e-6), parsed.findings[0].probability)
        assert parsed.findings[0].prediction_set == ("present",)
        assert [(part.part, part.p_value) for part in parsed.out_of_distribution] == [("image", 0.125)]
        assert parsed.refer_reasons == ("A rule.",)
        assert parsed.audit.verdict == "suspect"

    serve(scenario)


class Successor(FakeModel):
    """Takes the place of a model that reads squares of 64 pixels in the moment in which it prepares a study."""

    def __init__(self) -> None:
        super().__init__()
        self.read: list[tuple[int, ...]] = []

    def prepare(self, study: Study) -> Any:
        own = SquareConverter(48)
        self.converters = {"image": own}
        self.read += [own(image).shape for image in study.parts["image"]]
        return super().prepare(study)

    def probability(self, study: Study) -> float:
        return 0.25


def test_what_was_decoded_for_a_model_that_was_replaced_meanwhile_is_decoded_again() -> None:
    model = Successor()

    async def scenario(client: Client, _: FakeModel) -> None:
        model.converters = {"image": SquareConverter(64)}
        model.read.clear()
        answer = await client.post("/v1/diagnose", files=[("images", ("a", png(51)))])
        assert answer.status_code == 200, answer.text
        assert "images[0]: the image is blank" in answer.json()["warnings"]
        assert answer.json()["findings"][0]["probability"] == 0.25

    serve(scenario, model)
    assert model.read == [(48, 48)]


def test_an_explanation_holds_its_overlays_in_the_pixels_of_the_image() -> None:
    async def scenario(client: Client, _: FakeModel) -> None:
        parts = [("images", ("a", png(51))), *note("Cough.", findings=["pneumothorax"], level="thorough").items()]
        answer = await client.post("/v1/explain", files=parts)
        assert answer.status_code == 200, answer.text
        parsed = ExplanationAnswer.model_validate_json(answer.text)
        (explained,) = parsed.explanations
        assert (explained.finding, explained.methods["level"]) == ("pneumothorax", "thorough")
        assert explained.parts["text"][0].text == "Cough"
        assert parsed.neighbours[0].labels == {"pneumonia": True, "pneumothorax": None}
        (saliency,) = explained.parts["image"]
        assert saliency.peak is not None
        assert (saliency.peak.row, saliency.peak.column, saliency.peak.value) == (3, 5, 2.0)
        picture = Picture.open(io.BytesIO(base64.b64decode(saliency.overlay.data)))
        indices = np.asarray(picture)
        assert indices.shape == (saliency.overlay.rows, saliency.overlay.columns) == (40, 30)
        assert (indices[:, 0] == 0).all()
        values = (indices.astype(float) - 128) / 127 * saliency.overlay.scale
        assert values[3, 5] == pytest.approx(2.0)
        assert values[4, 6] == pytest.approx(-1.0, abs=saliency.overlay.scale / 127)
        coloured = np.asarray(picture.convert("RGBA"))
        assert coloured[3, 5, 0] > coloured[3, 5, 2], "for: orange"
        assert coloured[4, 6, 2] > coloured[4, 6, 0], "against: blue"
        assert coloured[10, 10, 3] == coloured[10, 0, 3] == 0
        assert coloured[3, 5, 3] > coloured[4, 6, 3] > 0

    serve(scenario)


def test_all_findings_are_explained_unless_some_are_named() -> None:
    async def scenario(client: Client, _: FakeModel) -> None:
        answer = await client.post("/v1/explain", files=note("Cough."))
        assert [explanation["finding"] for explanation in answer.json()["explanations"]] == [
            "pneumonia",
            "pneumothorax",
        ]

    serve(scenario)


@pytest.mark.parametrize(
    ("findings", "field"),
    [(["pneumonia", "pneumnia"], "findings[1]"), ([], "findings"), (["pneumonia", "pneumonia"], "findings")],
)
def test_findings_that_cannot_be_explained_are_refused(findings: list[str], field: str) -> None:
    async def scenario(client: Client, _: FakeModel) -> None:
        assert refused(await client.post("/v1/explain", files=note("Cough.", findings=findings)), 422)["field"] == field

    serve(scenario)


@pytest.mark.parametrize("masked", [True, False])
def test_the_model_says_whether_notes_are_masked(masked: bool) -> None:
    async def scenario(client: Client, model: FakeModel) -> None:
        model.recipe = Recipe.from_mapping({"name": "fake", "modalities": {"text": {"mask_notes": masked}}})
        assert (await client.get("/v1/model")).json()["reads"]["parts"]["text"]["mask_notes"] is masked

    serve(scenario)


def test_the_model_says_what_it_is_and_what_it_takes() -> None:
    async def scenario(client: Client, model: FakeModel) -> None:
        answer = ModelInformation.model_validate_json((await client.get("/v1/model")).text)
        assert answer.model.name == model.identity.name
        assert [finding.name for finding in answer.findings] == ["pneumonia", "pneumothorax"]
        assert answer.reads.parts["text"].note_kinds == ("history", "indication")
        assert (answer.limits.images, answer.limits.image_pixels) == (3, 1000)
        assert (answer.audit.verdict, answer.audit.reasons) == (model.audit.verdict, model.audit.reasons)
        assert answer.reads.parts == model.information
        assert answer.weights == model.weights
        assert answer.reads.parts["image"].trained_on.modality == {"DX": 30, "CR": 10}
        assert answer.backend is not None
        assert answer.backend.model_dump() == model.acceptance.to_json()
        assert (answer.backend.name, answer.backend.largest_deviation) == ("bf16", 0.0125)

    serve(scenario, max_images=3, max_image_pixels=1000)


def test_the_card_of_the_model_is_a_page_that_can_do_nothing() -> None:
    async def scenario(client: Client, model: FakeModel) -> None:
        model_answer = await client.get("/v1/model")
        card = await client.get(model_answer.url.join(model_answer.json()["card"]))
        assert (card.status_code, card.text) == (200, model.card["card.html"])
        assert card.headers["content-type"] == "text/html; charset=utf-8"
        assert card.headers["x-content-type-options"] == "nosniff"
        policy = dict(rule.partition(" ")[::2] for rule in card.headers["content-security-policy"].split("; "))
        assert policy["default-src"] == "'none'"
        assert "sandbox" in policy
        assert not any(rule.startswith(("script-src", "connect-src")) for rule in policy)

    serve(scenario)


def test_a_model_without_a_card_links_none() -> None:
    async def scenario(client: Client, model: FakeModel) -> None:
        model.card.clear()
        assert (await client.get("/v1/model")).json()["card"] is None
        assert refused(await client.get("/v1/model/card"), 404)["detail"] == "This model has no card."

    serve(scenario)


BAD_INPUT: list[tuple[dict[str, Any], int, str]] = [
    (request(), 422, "study"),
    (request(patient={"age": 60, "sex": "F"}), 422, "study"),
    (note("unprepared"), 422, "study"),
    (note(""), 422, "notes[0].text"),
    ({"request": (None, b"{", "application/json")}, 400, "request"),
    ({"request": (None, b"\x80\x04\x95K", "application/octet-stream")}, 400, "request"),
    (request(nots=[]), 422, "request"),
    (request(observations=[{"code": "8867-4", "value": 1.0, "unt": "/min"}]), 422, "observations[0]"),
    (request(observations=[{"code": "0-0", "value": 1.0, "unit": "mg/dL"}] * 501), 413, "observations"),
    (note("x" * 20_001), 413, "notes[0].text"),
    (request(notes=[{"kind": "history", "text": "x"}] * 33), 413, "notes"),
    (note("x", reference_time="yesterday"), 422, "reference_time"),
    ({"images": ("x.dcm", b"http://127.0.0.1:9/x.dcm", "application/dicom")}, 415, "images[0]"),
    ({"images": ("x.dcm", b"\x00" * 128 + b"DICM", "application/dicom")}, 422, "images[0]"),
    ({"images": ("x.png", b"", "image/png")}, 415, "images[0]"),
    ({"images": ("x.png", png(1)[:60], "image/png")}, 422, "images[0]"),
    ({"images": (None, "http://127.0.0.1:9/x.dcm")}, 422, "images[0]"),
    ({"image": ("x.png", png(1))}, 422, "form field"),
    ({"images": ("x.dcm", pickle.dumps({"__reduce__": "os.system"}), "application/dicom")}, 415, "images[0]"),
    ({"images": ("x.dcm", pickle.dumps([1], protocol=0), "application/octet-stream")}, 415, "images[0]"),
    ({"images": ("x.npy", b"\x93NUMPY\x01\x00", "application/octet-stream")}, 415, "images[0]"),
    ({"images": ("x.zip", b"PK\x03\x04" + bytes(100), "application/zip")}, 415, "images[0]"),
    ({"images": ("x.gz", b"\x1f\x8b\x08" + bytes(100), "application/gzip")}, 415, "images[0]"),
    ({"images": ("x.svg", b"<svg xmlns='http://www.w3.org/2000/svg'/>", "image/svg+xml")}, 415, "images[0]"),
    ({"request": (None, b"{}", "application/x-python-pickle")}, 415, "request"),
    (request(images=["http://127.0.0.1:9/x.dcm"]), 422, "request"),
    (request(notes=[{"kind": "history", "text": "x", "url": "http://127.0.0.1:9"}]), 422, "notes[0]"),
]


def test_bad_input_is_refused_with_its_field() -> None:
    async def scenario(client: Client, _: FakeModel) -> None:
        for files, status, field in BAD_INPUT:
            for door in ("diagnose", "explain"):
                answer = refused(await client.post(f"/v1/{door}", files=files), status)
                assert answer["field"].startswith(field), (files, answer)
                assert answer["rule"]

    serve(scenario)


def test_the_refused_image_is_named_among_good_ones() -> None:
    async def scenario(client: Client, _: FakeModel) -> None:
        parts = [("images", ("a", data)) for data in (png(1), b"%PDF-1.7", png(2))]
        answer = refused(await client.post("/v1/diagnose", files=parts), 415)
        assert (answer["field"], answer["value"]) == ("images[1]", "'PDF'")

    serve(scenario)


def test_other_bodies_paths_and_methods_are_refused() -> None:
    async def scenario(client: Client, _: FakeModel) -> None:
        refused(await client.post("/v1/diagnose", json={"notes": []}), 415)
        refused(await client.post("/v1/diagnose"), 415)
        assert "POST" in (await client.get("/v1/diagnose")).headers["allow"]
        refused(await client.get("/v1/diagnose"), 405)
        refused(await client.get("/v1/nothing"), 404)
        refused(await client.post("/v1/diagnose", files=note("x" * 500), headers={"Content-Encoding": "gzip"}), 415)

    serve(scenario)


def test_requests_at_once_share_batches_and_each_gets_its_own_answer() -> None:
    async def scenario(client: Client, model: FakeModel) -> None:
        texts = ["x" * length for length in range(1, 13)]
        answers = await asyncio.gather(*[client.post("/v1/diagnose", files=note(text)) for text in texts])
        probabilities = [answer.json()["findings"][0]["probability"] for answer in answers]
        assert probabilities == [len(text) / 1000 for text in texts]
        assert len(model.threads) == 1

    model = serve(scenario, batch_size=4, batch_wait_ms=200)
    assert max(model.batches) > 1
    assert sum(model.batches) == 12


def test_one_poisoned_study_fails_alone_and_tells_nobody_why(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(client: Client, _: FakeModel) -> None:
        texts = ["x", POISON, "xxx"]
        answers = await asyncio.gather(*[client.post("/v1/diagnose", files=note(text)) for text in texts])
        assert [answer.status_code for answer in answers] == [200, 500, 200]
        assert "Jane" not in answers[1].text

    with caplog.at_level(logging.DEBUG):
        serve(scenario, batch_size=4, batch_wait_ms=200)
    assert "ValueError" in caplog.text
    assert "Jane" not in caplog.text


def test_over_the_places_is_503_at_once_and_diagnoses_do_not_count_explanations() -> None:
    async def scenario(client: Client, model: FakeModel) -> None:
        model.hold.clear()
        first = asyncio.create_task(client.post("/v1/diagnose", files=note("x")))
        await asyncio.to_thread(model.entered.wait, PATIENCE_S)
        second = asyncio.create_task(client.post("/v1/diagnose", files=note("xx")))
        app = cast(httpx.ASGITransport, client._transport).app
        await until_async(lambda: app.state.lifecycle.engine.diagnoses.admitted == 2)  # type: ignore[attr-defined]
        full = await client.post("/v1/diagnose", files=note("xxx"))
        assert refused(full, 503)["type"] == "urn:consilium:problem:service-unavailable"
        assert full.headers["retry-after"] == "4"
        explained = asyncio.create_task(client.post("/v1/explain", files=note("xxx")))
        await asyncio.sleep(0.05)
        model.hold.set()
        answers = await asyncio.gather(first, second, explained)
        assert [answer.status_code for answer in answers] == [200, 200, 200]
        assert (await client.post("/v1/diagnose", files=note("x"))).status_code == 200

    serve(scenario, diagnosis_queue=2, retry_after_s=4)


@pytest.mark.parametrize("path", ["/v1/diagnose", "/v1/explain", "/v1/similar", "/v1/search", "/v1/diagnose/batch"])
def test_memory_of_a_request_is_released_with_its_answer(path: str) -> None:
    one, many = "images", "images.0"

    def study(*images: bytes, **parts: Any) -> list[tuple[str, Any]]:
        batch = path.endswith("batch")
        records = json.dumps([parts] if batch else parts)
        files = [(many if batch else one, ("a", image)) for image in images]
        return [*files, ("requests" if batch else "request", (None, records, "application/json"))]

    async def scenario(client: Client, model: FakeModel) -> None:
        notes = [{"kind": "history", "text": POISON}]
        bodies = {
            "good": study(png(1)),
            "no image": study(png(1), b"%PDF-1.7"),
            "unknown key": study(png(1), note=[]),
            "poisoned": study(png(1), notes=notes),
            "late": study(png(1), notes=notes),
        }
        gc.collect()
        gc.disable()
        try:
            for name, body in bodies.items():
                model.hold.set() if name != "late" else model.hold.clear()
                await client.post(path, files=body)
                model.hold.set()
                await until_async(lambda: not [kept for kept in gc.get_objects() if type(kept) is Form], name)
        finally:
            gc.enable()

    serve(scenario, answer_timeout_s=1, explanation_timeout_s=1)


def test_a_late_answer_is_504_and_its_place_comes_back() -> None:
    async def scenario(client: Client, model: FakeModel) -> None:
        model.hold.clear()
        refused(await client.post("/v1/diagnose", files=note("x")), 504)
        model.hold.set()
        assert (await client.post("/v1/diagnose", files=note("x"))).status_code == 200

    serve(scenario, diagnosis_queue=1, answer_timeout_s=2)


def test_a_slow_body_is_408() -> None:
    async def slowly() -> AsyncIterator[bytes]:
        yield b"--b\r\n"
        await asyncio.sleep(5)
        yield b"--b--\r\n"

    async def scenario(client: Client, _: FakeModel) -> None:
        headers = {"Content-Type": "multipart/form-data; boundary=b"}
        refused(await client.post("/v1/diagnose", content=slowly(), headers=headers), 408)

    serve(scenario, receive_timeout_s=0.2)


@pytest.mark.parametrize(("bytes_per_s", "status"), [(10_000, 200), (1_000_000, 408)])
def test_a_large_body_may_take_longer_as_long_as_it_comes_at_the_least_rate(bytes_per_s: float, status: int) -> None:
    whole = httpx.Request("POST", "http://service", files=note("x" * 9_000))
    body = whole.read()

    async def steadily() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 1000):
            yield body[start : start + 1000]
            await asyncio.sleep(0.05)

    async def scenario(client: Client, _: FakeModel) -> None:
        headers = {"Content-Type": whole.headers["content-type"]}
        answer = await client.post("/v1/diagnose", content=steadily(), headers=headers)
        assert answer.status_code == status, answer.text

    serve(scenario, receive_timeout_s=0.2, receive_bytes_per_s=bytes_per_s)


def test_the_description_s_page_runs_under_a_policy_that_lets_its_own_scripts_run_alone() -> None:
    async def scenario(client: Client, _: FakeModel) -> None:
        page = await client.get("/docs")
        policy = dict(part.split(" ", 1) for part in page.headers["content-security-policy"].split("; "))
        (script,) = re.findall(r"<script>(.*?)</script>", page.text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        assert policy["script-src"] == f"'self' 'sha256-{digest}'"
        assert (policy["default-src"], policy["frame-ancestors"]) == ("'none'", "'none'")
        assert int(page.headers["content-length"]) == len(page.content)

    serve(scenario)


def test_a_body_over_the_limit_is_413_before_it_has_arrived() -> None:
    async def endless() -> AsyncIterator[bytes]:
        yield b'--b\r\nContent-Disposition: form-data; name="images"; filename="a"\r\n\r\n'
        while True:
            yield b"x" * 1000

    async def scenario(client: Client, _: FakeModel) -> None:
        headers = {"Content-Type": "multipart/form-data; boundary=b"}
        assert refused(await client.post("/v1/diagnose", content=endless(), headers=headers), 413)["field"] == "body"

    serve(scenario, max_body_bytes=50_000)


@pytest.mark.parametrize(("chunks", "passed"), [(1000, 1000), (10**9, 4195)])
def test_a_short_rest_of_a_refused_body_is_passed_over_and_no_long_one(chunks: int, passed: int) -> None:
    sent = 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal sent
        yield b'--b\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'
        while sent < chunks:
            sent += 1
            yield bytes(1000)

    async def scenario(client: Client, _: FakeModel) -> None:
        headers = {"Content-Type": "multipart/form-data; boundary=b"}
        answer = refused(await client.post("/v1/diagnose", content=body(), headers=headers), 422)
        assert answer["field"] == "form field"

    serve(scenario)
    assert sent == passed


def test_an_explanation_does_not_block_the_event_loop() -> None:
    async def scenario(client: Client, model: FakeModel) -> None:
        begun, held = threading.Event(), threading.Event()
        explain = model.explain_prepared

        def slow(*arguments: Any) -> Any:
            begun.set()
            held.wait(PATIENCE_S)
            return explain(*arguments)

        model.explain_prepared = slow  # type: ignore[method-assign]
        explaining = asyncio.create_task(client.post("/v1/explain", files=note("x")))
        await asyncio.to_thread(begun.wait, PATIENCE_S)
        assert (await client.get("/v1/model")).status_code == 200
        assert not explaining.done()
        held.set()
        assert (await explaining).status_code == 200

    serve(scenario)


def test_before_the_model_is_loaded_every_route_is_503() -> None:
    async def go() -> None:
        async with Client(transport=httpx.ASGITransport(create_app()), base_url="http://service") as client:
            answers = [
                client.get("/v1/model"),
                client.get("/v1/model/card"),
                client.post("/v1/diagnose", files=note("x")),
            ]
            for answer in await asyncio.gather(*answers):
                refused(answer, 503)
                assert int(answer.headers["retry-after"]) > 0

    asyncio.run(go())


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_the_documentation_page_fetches_nothing_from_elsewhere(path: str) -> None:
    async def go() -> None:
        async with Client(transport=httpx.ASGITransport(create_app()), base_url="http://service") as client:
            page = (await client.get(path)).text
        assert "url: 'docs.json'" in page
        assert "//" not in page.replace("// ", ""), "an address of another host"

    asyncio.run(go())


def test_a_caller_who_goes_away_takes_its_study_out_of_the_queue() -> None:
    async def scenario(client: Client, model: FakeModel) -> None:
        model.hold.clear()
        first = asyncio.create_task(client.post("/v1/diagnose", files=note("x")))
        await asyncio.to_thread(model.entered.wait, PATIENCE_S)
        status = await gone_after_sending(client)
        model.hold.set()
        assert (await first).status_code == 200
        assert status == 499

    model = serve(scenario, batch_size=1)
    assert model.batches == [1]


def test_an_error_after_the_caller_went_away_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def answer() -> None:
        try:
            await asyncio.sleep(5)
        finally:
            raise ValueError("Jane Roe")

    async def receive() -> dict[str, Any]:
        await asyncio.sleep(0.01)
        return {"type": "http.disconnect"}

    async def go() -> None:
        with pytest.raises(ClientDisconnect):
            await while_connected(Request({"type": "http"}, receive), answer())
        await asyncio.sleep(0.01)

    with caplog.at_level(logging.DEBUG):
        asyncio.run(go())
        gc.collect()
    assert "Jane" not in caplog.text


async def gone_after_sending(client: Client) -> int:
    """Post a note as a caller who closes the connection once the body is sent."""
    sent = client.build_request("POST", "/v1/diagnose", files=note("gone"))
    messages = [{"type": "http.request", "body": sent.read(), "more_body": False}, {"type": "http.disconnect"}]
    answered: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        await asyncio.sleep(0.05)
        return messages.pop(0)

    async def send(message: dict[str, Any]) -> None:
        answered.append(message)

    transport = client._transport
    assert isinstance(transport, httpx.ASGITransport)
    headers = [(name.lower(), value) for name, value in sent.headers.raw]
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "path": "/v1/diagnose",
    }
    scope |= {"raw_path": b"/v1/diagnose", "query_string": b"", "headers": headers, "server": ("service", 80)}
    scope |= {"client": ("caller", 1), "scheme": "http", "root_path": ""}
    await transport.app(scope, receive, send)
    return int(answered[0]["status"])
