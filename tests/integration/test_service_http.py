"""The service as its users run it: BentoML in processes of its own, a model from a folder, requests over HTTP."""

from __future__ import annotations

import asyncio
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pytest
from PIL import Image as Picture

from consilium.api.client import AsyncClient, Client, ServiceProblem
from consilium.api.schemas import DiagnosisAnswer
from consilium.cli import main
from consilium.inference.diagnostician import Diagnostician
from consilium.ingest.study_records import study_from_records
from consilium.modalities.image.records import read_image
from service.app.launch import RunningService, command, environment, free_port
from tests.patience import PATIENCE_S, until

NAME = "Jane-Roe-19500101"
RECORDS: dict[str, Any] = {
    "notes": [{"kind": "history", "text": "fever cough dyspnoea", "time": "2024-05-01T10:00:00"}],
    "observations": [{"code": "1988-5", "value": 112.0, "unit": "mg/L", "time": "2024-05-01T11:00:00"}],
    "patient": {"age": 67, "sex": "F"},
    "reference_time": "2024-05-01T12:00:00",
}
OPEN = {"insecure": True}
LIMITS = {"max_body_bytes": 4_000_000, "max_images": 4, "decode_timeout_s": 10, "answer_timeout_s": 20}


def png(seed: int, side: int = 200) -> bytes:
    data = io.BytesIO()
    Picture.fromarray(np.random.default_rng(seed).integers(0, 256, (side, side), dtype=np.uint8)).save(data, "PNG")
    return data.getvalue()


def form(records: dict[str, Any], *images: bytes) -> list[tuple[str, Any]]:
    return [("images", ("x", image)) for image in images] + [
        ("request", (None, json.dumps(records), "application/json"))
    ]


@pytest.fixture(scope="module")
def diagnostician(tiny_folder: Path) -> Diagnostician:
    return Diagnostician.load(tiny_folder, "cpu")


@pytest.fixture(scope="module")
def service(tiny_folder: Path) -> Iterator[RunningService]:
    with RunningService(tiny_folder, LIMITS | {"model_threads": 1}) as running:
        yield running


@pytest.fixture(scope="module")
def client(service: RunningService) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service.url, timeout=PATIENCE_S) as client:
        yield client


@pytest.fixture(scope="module")
def caller(service: RunningService) -> Iterator[Client]:
    with Client(service.url, timeout=PATIENCE_S) as caller:
        yield caller


@pytest.mark.parametrize("images", [0, 1, 2])
@pytest.mark.parametrize("without", [(), ("notes",), ("observations", "patient")])
def test_the_same_probabilities_as_in_this_process(
    caller: Client, diagnostician: Diagnostician, images: int, without: tuple[str, ...]
) -> None:
    records = {key: value for key, value in RECORDS.items() if key not in without}
    files = [png(seed) for seed in range(images)]
    answer = caller.diagnose(images=files, **records)
    read = {key: value for key, value in records.items() if key != "reference_time"}
    study = study_from_records(
        images=[read_image(file) for file in files], **read, reference_time=records["reference_time"]
    )
    (expected,) = diagnostician.diagnose([study])
    for finding, own in zip(answer.findings, expected.findings, strict=True):
        assert finding.probability == pytest.approx(own.probability, abs=1e-6)
        assert finding.unimodal_probabilities == pytest.approx(own.unimodal_probabilities, abs=1e-6)
    assert answer.model.manifest_digest == diagnostician.identity.manifest_digest
    assert answer.input_digests == expected.input_digests
    assert answer.warnings == expected.warnings


def test_an_explanation_adds_up_and_agrees_with_the_diagnosis(caller: Client) -> None:
    answer = caller.explain(images=[png(1)], findings=["effusion"], **RECORDS)
    (explained,) = answer.explanations
    assert explained.prior_log_odds + sum(explained.modalities.values()) == pytest.approx(explained.log_odds, abs=1e-5)
    (saliency,) = explained.parts["image"]
    assert (saliency.overlay.rows, saliency.overlay.columns) == (200, 200)
    assert {word.text for word in explained.parts["text"]} == {"fever", "cough", "dyspnoea"}
    assert "crp" in {observation.variable for observation in explained.parts["observations"]}
    for one, other in zip(answer.findings, caller.diagnose(images=[png(1)], **RECORDS).findings, strict=True):
        assert one.probability == pytest.approx(other.probability, abs=1e-5)


def test_the_client_reads_every_answer_and_every_problem(caller: Client, diagnostician: Diagnostician) -> None:
    assert caller.ready()
    assert caller.model().model.manifest_digest == diagnostician.identity.manifest_digest
    card = caller.card()
    assert card is None or card.startswith("<!doctype html>")
    with pytest.raises(ServiceProblem) as caught:
        caller.diagnose(images=[b"%PDF-1.7"], **RECORDS)
    assert (caught.value.status, caught.value.field, caught.value.value) == (415, "images[0]", "'PDF'")


def test_a_worklist_is_answered_as_its_studies_are_alone(
    service: RunningService, caller: Client, client: httpx.Client
) -> None:
    films = [[png(seed) for seed in range(count)] for count in (0, 1, 2, 1)]
    studies = [{**RECORDS, "images": images} for images in films]
    answer = caller.diagnose_batch([*studies, {"images": [b"%PDF-1.7"]}, {}])
    for images, given in zip(films, answer, strict=False):
        assert isinstance(given, DiagnosisAnswer)
        assert given.result_id is not None
        assert caller.result(given.result_id).endpoint == "diagnose"
        alone = caller.diagnose(images=images, **RECORDS)
        assert given.input_digests == alone.input_digests
        for one, other in zip(given.findings, alone.findings, strict=True):
            assert one.probability == pytest.approx(other.probability, abs=1e-5)
    refused = [(given.status, given.field) for given in answer[4:] if isinstance(given, ServiceProblem)]
    assert refused == [(415, "images[0]"), (422, "study")]

    async def go() -> list[Any]:
        async with AsyncClient(service.url, timeout=PATIENCE_S) as several:
            return list(await several.diagnose_batch(studies[:2]))

    assert [given.input_digests for given in asyncio.run(go())] == [given.input_digests for given in answer[:2]]  # type: ignore[union-attr]
    whole = client.post("/v1/diagnose/batch", files=[("requests", (None, "[]", "application/json"))])
    assert (whole.status_code, whole.headers["content-type"]) == (422, "application/problem+json")


def test_a_worklist_comes_line_by_line_and_a_caller_who_leaves_it_stops_it(client: httpx.Client) -> None:
    requests = json.dumps([RECORDS] * 32)
    body = [("requests", (None, requests, "application/json"))]
    with client.stream("POST", "/v1/diagnose/batch", files=body) as answer:
        assert answer.headers["content-type"] == "application/x-ndjson"
        assert answer.headers["transfer-encoding"] == "chunked"
        first = json.loads(next(answer.iter_lines()))
        assert client.get(f"/v1/results/{first['answer']['result_id']}").status_code == 200, (
            "recorded before it is sent"
        )
    for queue in ("worklist", "diagnose"):
        until(lambda: f'consilium_admitted_requests{{queue="{queue}"}} 0.0' in client.get("/metrics").text)  # noqa: B023
    *_, last = client.post("/v1/diagnose/batch", files=body).text.splitlines()
    assert json.loads(last) == {"studies": 32, "answered": 32, "refused": 0}


def test_the_most_similar_training_cases_are_those_of_the_explanation(caller: Client) -> None:
    answer = caller.similar(images=[png(1)], count=3, **RECORDS)
    explained = caller.explain(images=[png(1)], **RECORDS)
    assert [case.pseudonym for case in answer.neighbours] == [case.pseudonym for case in explained.neighbours[:3]]
    assert answer.neighbours[0].similarity == pytest.approx(explained.neighbours[0].similarity, abs=1e-5)
    assert answer.out_of_distribution[0].score == pytest.approx(explained.out_of_distribution[0].score, rel=1e-3)
    assert answer.result_id is not None
    assert caller.result(answer.result_id).endpoint == "similar"


def test_the_asynchronous_client_raises_the_same(service: RunningService, caller: Client) -> None:
    async def go() -> list[DiagnosisAnswer]:
        async with AsyncClient(service.url, timeout=PATIENCE_S) as client:
            assert await client.ready()
            return await asyncio.gather(*(client.diagnose(images=[png(seed)], **RECORDS) for seed in range(3)))

    for seed, answer in enumerate(asyncio.run(go())):
        alone = caller.diagnose(images=[png(seed)], **RECORDS)
        assert answer.input_digests == alone.input_digests
        for one, other in zip(answer.findings, alone.findings, strict=True):
            assert one.probability == pytest.approx(other.probability, abs=1e-5)


def test_the_command_says_the_same_of_a_model_here_and_of_a_service(
    service: RunningService, tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    film, labs, page = tmp_path / "film.png", tmp_path / "labs.csv", tmp_path / "report.html"
    film.write_bytes(png(1))
    labs.write_text("code,value,unit\n1988-5,112,mg/L\n")
    study = ["--image", str(film), "--note", "history=fever cough", "--observations", str(labs), "--age", "67"]
    assert main(["diagnose", str(tiny_folder), *study, "--device", "cpu"]) == 0
    here = capsys.readouterr().out
    assert main(["diagnose", "--url", service.url, *study, "--report", str(page)]) == 0
    there = capsys.readouterr().out
    assert there == f"{here}report: {page}\n"
    assert page.read_text().startswith("<!doctype html>")
    assert main(["diagnose", "--url", service.url, "--note", "history=fever", "--finding", "gout"]) == 2
    assert "the service answered 422: findings[0]: got 'gout'" in capsys.readouterr().err


def test_health_model_metrics_and_openapi_answer(client: httpx.Client, diagnostician: Diagnostician) -> None:
    assert client.get("/livez").status_code == client.get("/readyz").status_code == 200
    assert client.get("/v1/model").json()["model"] == diagnostician.identity.to_json()
    assert client.get("/metrics").status_code == 200
    document = client.get("/openapi.json").json()
    assert client.get("/docs.json").json() == document
    assert {"/v1/diagnose", "/v1/explain", "/v1/model", "/readyz"} <= set(document["paths"])
    page = client.get("/").text
    assert page == client.get("/docs").text
    for file in re.findall(r'(?:href|src)="([^"]+)"', page):
        assert client.get(f"/{file}").status_code == 200, file


def test_a_chunked_body_without_length_that_waits_to_be_asked_for_is_taken(service: RunningService) -> None:
    """RFC 9112, 7.1, and RFC 9110, 10.1.1."""
    sent = httpx.Request("POST", service.url, files=form(RECORDS, png(1)))
    body = sent.read()
    head = [
        "POST /v1/diagnose HTTP/1.1",
        "Host: localhost",
        f"content-type: {sent.headers['Content-Type']}",
        "TRANSFER-ENCODING: Chunked",
        "EXPECT: 100-Continue",
    ]
    with socket.create_connection(("127.0.0.1", service.port), timeout=PATIENCE_S) as connection:
        connection.sendall("\r\n".join([*head, "", ""]).encode())
        answer = connection.makefile("rb")
        assert answer.readline() == b"HTTP/1.1 100 Continue\r\n"
        assert answer.readline() == b"\r\n"
        for start in range(0, len(body), 1000):
            chunk = body[start : start + 1000]
            connection.sendall(b"%x;name=value\r\n%b\r\n" % (len(chunk), chunk))
        connection.sendall(b"0\r\nX-Trailer: 1\r\n\r\n")
        assert answer.readline() == b"HTTP/1.1 200 OK\r\n"


def test_concurrent_requests_each_get_their_own_answer(service: RunningService, client: httpx.Client) -> None:
    bodies = [form(RECORDS, png(seed)) for seed in range(6)]
    alone = [client.post("/v1/diagnose", files=body).json() for body in bodies]

    async def go() -> list[dict[str, Any]]:
        async with httpx.AsyncClient(base_url=service.url, timeout=PATIENCE_S) as several:
            answers = await asyncio.gather(*[several.post("/v1/diagnose", files=body) for body in bodies * 4])
            assert {answer.status_code for answer in answers} == {200}
            return [answer.json() for answer in answers]

    for number, together in enumerate(asyncio.run(go())):
        expected = alone[number % len(bodies)]
        assert together["input_digests"] == expected["input_digests"]
        for one, other in zip(together["findings"], expected["findings"], strict=True):
            assert one["probability"] == pytest.approx(other["probability"], abs=1e-5)


@pytest.mark.parametrize(
    ("files", "status"),
    [
        (form({}), 422),
        (form({"note": []}), 422),
        ([("images", (None, "http://127.0.0.1:9/x.dcm"))], 422),
        ([("images", ("x", b"http://127.0.0.1:9/x.dcm"))], 415),
        ([("images", ("x", png(0)[:1000]))], 422),
        ([("request", (None, "{"))], 400),
        ([("images", ("x", png(0, 20)))] * 5, 413),
        ([("images", ("x", bytes(5_000_000)))], 413),
    ],
)
def test_bad_input_is_a_problem_over_http(client: httpx.Client, files: list[Any], status: int) -> None:
    answer = client.post("/v1/diagnose", files=files)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert {"field", "value", "rule"} <= set(answer.json())


def test_a_url_in_the_file_field_is_never_fetched(client: httpx.Client) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/x.dcm"
        for part in [(None, url), ("x.dcm", url.encode())]:
            assert client.post("/v1/diagnose", files=[("images", part)]).status_code in (415, 422)
        listener.settimeout(0.5)
        with pytest.raises(TimeoutError):
            listener.accept()


def test_a_body_without_end_is_cut_off(service: RunningService) -> None:
    opening = b'--b\r\nContent-Disposition: form-data; name="images"; filename="a"\r\n\r\n'
    sent = 0
    with socket.create_connection(("127.0.0.1", service.port), timeout=PATIENCE_S) as connection:
        connection.sendall(
            b"POST /v1/diagnose HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=b\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n" + f"{len(opening):x}\r\n".encode() + opening + b"\r\n"
        )
        chunk = b"10000\r\n" + bytes(0x10000) + b"\r\n"
        try:
            while sent < 50_000_000:
                connection.sendall(chunk)
                sent += 0x10000
        except OSError:
            pass
        answer = connection.recv(1000)
    assert b" 413 " in answer.split(b"\r\n")[0]
    assert sent < 20_000_000


def test_nothing_a_patient_could_be_named_by_is_logged(service: RunningService, client: httpx.Client) -> None:
    record = {"notes": [{"kind": "history", "text": NAME, NAME: 1}], "caller_reference": NAME}
    attempts: list[list[Any]] = [
        form(record),
        form({"notes": [{"kind": NAME, "text": NAME}]}),
        form({"observations": [{"code": NAME, "value": 1.0, "unit": NAME}]}),
        form({"patient": {NAME: 1}}),
        form({"reference_time": NAME}),
        form(RECORDS | {"caller_reference": NAME}, png(0)),
        [("images", (NAME, NAME.encode()))],
        [(NAME, (NAME, b""))],
        [("request", (None, NAME))],
    ]
    for files in attempts:
        assert client.post("/v1/diagnose", files=files, params={"patient": NAME}).status_code < 500
    log = service.log()
    assert "/v1/diagnose" in log
    assert NAME not in log


def test_a_decoder_that_dies_takes_one_request_with_it(service: RunningService, client: httpx.Client) -> None:
    def decoders() -> list[psutil.Process]:
        return [
            process
            for process in psutil.Process(service.pid).children(recursive=True)
            if any("spawn_main" in argument for argument in process.cmdline())
        ]

    assert client.post("/v1/diagnose", files=form({}, png(0))).status_code == 200
    for process in decoders():
        process.kill()
    statuses = [client.post("/v1/diagnose", files=form({}, png(seed))).status_code for seed in range(4)]
    assert statuses[0] in (200, 422)
    assert statuses[1:] == [200, 200, 200]
    assert client.post("/v1/diagnose", files=form(RECORDS)).status_code == 200


def test_an_open_host_is_refused_before_a_port_is_taken(tiny_folder: Path) -> None:
    port = free_port()
    arguments = command(port)
    arguments[arguments.index("--host") + 1] = "0.0.0.0"
    ended = subprocess.run(
        arguments, check=False, env=environment(tiny_folder, OPEN), capture_output=True, text=True, timeout=PATIENCE_S
    )
    assert ended.returncode != 0
    assert "host: got '0.0.0.0', must be 127.0.0.1" in ended.stdout + ended.stderr


def test_a_worker_given_an_open_socket_refuses_to_answer(tiny_folder: Path) -> None:
    """Started from Python, `bentoml` has no command line to look at; the supervisor runs in the caller's process."""
    start = (
        "import bentoml, time\n"
        f"with bentoml.serve('service.app.service:Consilium', host='0.0.0.0', port={free_port()}) as server:\n"
        "    for running in (True, False):\n"
        "        while server.running is not running:\n"
        "            time.sleep(0.1)\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", start],
        check=False,
        env=environment(tiny_folder, OPEN),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert "cannot start: host: got '0.0.0.0'" in ended.stdout + ended.stderr
    assert ended.returncode == 1


def test_a_killed_supervisor_leaves_no_process_and_no_port(tiny_folder: Path) -> None:
    with RunningService(tiny_folder, {"model_threads": 1}) as running:
        family = psutil.Process(running.pid).children(recursive=True)
        assert len(family) >= 2, "a worker and a decoder"
        os.kill(running.pid, signal.SIGKILL)
        _, left = psutil.wait_procs(family, timeout=PATIENCE_S)
        assert left == []
        with socket.create_server(("127.0.0.1", running.port)):
            pass


def test_a_misspelt_setting_is_logged_by_its_name_alone_and_a_service_that_was_stopped_exits_with_code_0(
    service: RunningService, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONSILIUM_AUDIT_LOG_ULR", "postgresql://u:secret@db/record")
    with RunningService(tiny_folder, {"model_threads": 1}) as running:
        process, output = running._process, running.log()
    assert process is not None
    assert process.returncode == 0
    assert (
        output.count("CONSILIUM_AUDIT_LOG_ULR is no setting and is ignored; the nearest is CONSILIUM_AUDIT_LOG_URL")
        == 1
    )
    assert "secret" not in output
    assert "is no setting" not in service.log()


def test_a_model_that_cannot_be_loaded_ends_the_service(tmp_path: Path) -> None:
    with pytest.raises(Exception, match=r"(?s)the service ended with code 1:.*model: got .*must be a model folder"):
        RunningService(tmp_path / "nothing", ready_within_s=PATIENCE_S).__enter__()
