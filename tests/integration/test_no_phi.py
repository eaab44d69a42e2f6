"""Names, numbers and dates of a patient, in every field that a request has, and the places where none may be found.

Each is unique, so that what is found tells where it came from. The answers themselves go back to whoever sent them.
"""

from __future__ import annotations

import io
import json
import socket
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pytest
from PIL import Image as Picture
from PIL.PngImagePlugin import PngInfo
from pydicom import Dataset

from consilium.artifacts.artifact import save_artifact
from service.app.launch import RunningService
from tests.consilium.formats.dicom.dicom_files import header, ramp, written
from tests.consilium.tiny_artifact import tiny_artifact
from tests.consilium.tiny_index import write_tiny_index
from tests.patience import PATIENCE_S, until
from tests.service.collector import Collector, collector

BORN = ("19531127", "1953-11-27", "27.11.1953")
EXPLICIT_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"


class Marks:
    """Makes words that stand nowhere else, and remembers them."""

    def __init__(self) -> None:
        self.made: list[str] = [*BORN]

    def __call__(self, where: str) -> str:
        word = f"Zq{len(self.made):02d}{where.replace('-', '').replace('_', '')}Roe"
        self.made.append(word)
        return word

    def found_in(self, data: bytes) -> set[str]:
        """As text in the encodings that programs keep text in, in any case."""
        lowered = data.lower()
        return {
            mark
            for mark in self.made
            if any(mark.lower().encode(encoding) in lowered for encoding in ("utf-8", "utf-16-le"))
        }


@pytest.fixture(scope="module")
def marks() -> Marks:
    return Marks()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything that the service may write to lies below."""
    return tmp_path_factory.mktemp("phi")


@pytest.fixture(scope="module")
def traces() -> Iterator[Collector]:
    with collector() as running:
        yield running


@pytest.fixture(scope="module")
def service(place: Path, traces: Collector) -> Iterator[RunningService]:
    model = place / "model"
    save_artifact(model, tiny_artifact())
    index, _ = write_tiny_index(place)
    folders = {"TMPDIR": "tmp", "HOME": "user", "CONSILIUM_HOME": "home", "BENTOML_HOME": "bentoml"}
    with pytest.MonkeyPatch.context() as patch:
        for variable, name in folders.items():
            (place / name).mkdir()
            patch.setenv(variable, str(place / name))
        limits = {"model_threads": 1, "device": "cpu", "max_images": 2, "max_body_bytes": 4_000_000}
        limits |= {"search_index": index, "studies": True}
        with RunningService(model, {**limits, "otlp_endpoint": traces.url}) as running:
            yield running


def dicom(marks: Marks, **elements: Any) -> bytes:
    dataset = header(
        ramp(),
        PatientName=f"{marks('name')}^{marks('given')}",
        PatientID=marks("patientid"),
        PatientBirthDate=BORN[0],
        OtherPatientNames=marks("othername"),
        PatientAddress=marks("address"),
        PatientComments=marks("comment"),
        AccessionNumber=marks("acc")[:16],
        StudyID=marks("study")[:16],
        ReferringPhysicianName=marks("physician"),
        InstitutionName=marks("institution"),
        Manufacturer=marks("manufacturer"),
        ManufacturerModelName=marks("modelname"),
        StationName=marks("station")[:16],
        StudyDescription=marks("description"),
        SeriesDescription=marks("series"),
        ImageComments=marks("imagecomment"),
        StudyDate=BORN[0],
        AcquisitionDate=BORN[0],
    )
    dataset.PixelData = ramp().tobytes()
    dataset["PixelData"].VR = "OW"
    block = dataset.private_block(0x0011, marks("private"), create=True)
    block.add_new(0x01, "LO", marks("privatevalue"))
    inner = Dataset()
    inner.PatientName = marks("nested")
    dataset.OtherPatientIDsSequence = [inner]
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    return written(dataset, EXPLICIT_LITTLE_ENDIAN)


def png(marks: Marks) -> bytes:
    text = PngInfo()
    text.add_text(marks("pngkey"), marks("pngtext"))
    data = io.BytesIO()
    Picture.fromarray(np.zeros((64, 64), np.uint8)).save(data, "PNG", pnginfo=text)
    return data.getvalue()


def form(request: object, *images: tuple[str, bytes, str]) -> list[tuple[str, Any]]:
    sent = request if isinstance(request, str | bytes) else json.dumps(request)
    return [("images", image) for image in images] + [("request", (None, sent, "application/json"))]


def whole_requests(marks: Marks) -> list[list[tuple[str, Any]]]:
    """Well-formed, with a mark wherever a caller may write one."""
    records = {
        "notes": [
            {"kind": "history", "text": f"{marks('note')} born {BORN[2]}, fever", "time": "1953-11-27T03:14:15"},
            {"kind": "findings", "text": marks("unreadnote")},
        ],
        "observations": [
            {"code": "1988-5", "value": 112.0, "unit": f"mg/L{{{marks('unitword')}}}", "time": "1953-11-27T03:00:00"},
        ],
        "patient": {"age": 71, "sex": "F", "names": [f"{marks('toldname')}^{marks('toldgiven')}", marks("toldid")]},
        "reference_time": "1953-11-27T04:00:00",
        "caller_reference": marks("reference"),
    }
    file = (marks("filename"), dicom(marks), f"application/{marks('type')}")
    return [
        form(records, file),
        form(records, file, (marks("pngname"), png(marks), "")),
    ]


def worklist(marks: Marks) -> list[tuple[str, Any]]:
    """Several studies in one body, good ones and broken ones."""
    requests = [
        {"caller_reference": marks("batchreference")},
        {"notes": [{"kind": "history", "text": marks("batchnote")}]},
        {marks("batchkey"): marks("batchvalue")},
        marks("batchstudy"),
        {},
    ]
    return [
        ("images.0", (marks("batchfile"), dicom(marks), f"application/{marks('batchtype')}")),
        ("images.4", (marks("batchcut"), dicom(marks)[:-2000], "")),
        ("requests", (None, json.dumps(requests), "application/json")),
    ]


def broken_requests(marks: Marks) -> list[list[tuple[str, Any]]]:
    """Each breaks another rule, with a mark at the place."""
    return [
        form(f'{{"notes": [{{"kind": "{marks("kind")}"}}]}}'),
        form({"notes": [{"kind": "history", "text": "x", marks("key"): marks("value")}]}),
        form({marks("toplevel"): 1}),
        form({"patient": {"age": marks("age"), "sex": marks("sex")}}),
        form({"reference_time": marks("time")}),
        form({"observations": [{"code": "1988-5", "value": marks("number"), "unit": "mg/L"}]}),
        form({"observations": [{"code": marks("code"), "value": 1.0, "unit": "mg/L"}]}),
        form({"observations": [{"code": "1988-5", "value": 1.0, "unit": marks("unit")}]}),
        form({"caller_reference": marks("long") * 200}),
        form(f"{{ no JSON {marks('json')}"),
        form({}, (marks("text"), marks("bytes").encode(), "")),
        form({}, (marks("cut"), dicom(marks)[:-2000], "")),
        form({}, (marks("odd"), dicom(marks, str=marks("modality")[:16], BitsStored=99), "")),
        form({}, (marks("photometric"), dicom(marks, PhotometricInterpretation=marks("photo")[:16].upper()), "")),
        form({}, *[(marks("many"), png(marks), "")] * 3),
        [(marks("field"), (marks("fieldfile"), marks("fieldtext").encode()))],
        [("images", (None, f"http://{marks('host')}.example/{marks('path')}"))],
        [("request", (None, b"x" * 2_000_000 + marks("large").encode()))],
        form(b"\xff" + marks("encoding").encode()),
    ]


def headers(marks: Marks) -> dict[str, str]:
    names = ("X-Request-Id", "User-Agent", "Idempotency-Key", "Referer", "Cookie", "X-Forwarded-For", "traceparent")
    return {name: marks(name) for name in names} | {marks("headername"): marks("headervalue")}


def everything(marks: Marks, client: httpx.Client) -> list[int]:
    """Send it all, and give the statuses."""
    statuses = []
    for files in whole_requests(marks):
        for door in ("/v1/diagnose", "/v1/explain", "/v1/draft", "/v1/similar", "/v1/search"):
            answer = client.post(door, files=files, params={marks("query"): BORN[1]}, headers=headers(marks))
            assert answer.status_code == 200, answer.text
            statuses.append(answer.status_code)
    quoted: set[str] = set()
    for files in broken_requests(marks):
        answer = client.post("/v1/diagnose", files=files, headers=headers(marks))
        assert 400 <= answer.status_code < 500, answer.text
        statuses.append(answer.status_code)
        quoted |= marks.found_in(answer.content)
    assert len(quoted) > 5, "an answer tells its caller what was wrong, and what is searched for can be found"
    elsewhere = [
        client.get(f"/v1/results/{marks('result')}"),
        client.get(f"/{marks('route')}/{BORN[1]}"),
        client.request(marks("method")[:12].upper(), "/v1/diagnose"),
        client.post("/v1/feedback", json={"result_id": marks("feedback"), "findings": {marks("finding"): "present"}}),
        client.post("/v1/explain", files=form({"findings": [marks("asked")], "notes": []})),
        client.post("/v1/search", files=form({"labels": {marks("label"): "present"}, "having": [marks("having")]})),
        client.post("/v1/diagnose/batch", files=worklist(marks), headers=headers(marks)),
        client.post("/v1/jobs", files=worklist(marks), headers=headers(marks)),
        client.post("/v1/jobs", files=worklist(marks), params={"kind": marks("jobkind")}),
        client.post("/v1/diagnose/batch", files=[(marks("batchfield"), (None, "x"))], headers=headers(marks)),
        client.post("/v1/diagnose", content=marks("body").encode(), headers={"Content-Type": marks("contenttype")}),
        client.get("/v1/model", headers={"Authorization": f"Bearer {marks('token')}"}),
    ]
    return [*statuses, *[answer.status_code for answer in elsewhere]]


def stored(marks: Marks, client: httpx.Client) -> list[int]:
    """Store a study, look at everything of it, and give the statuses."""
    named = headers(marks)
    answers = [client.post("/v1/studies", files=whole_requests(marks)[0], headers=named)]
    study = f"/v1/studies/{answers[0].json()['study_id']}"
    while answers[-1].json()["state"] not in ("answered", "refused"):
        time.sleep(0.2)
        answers.append(client.get(study, headers=named))
    detail = answers[-1].json()
    assert detail["state"] == "answered"
    assert marks.found_in(detail["patient"]["label"].encode()), "readers see whose study it is"
    finding = detail["reading"]["findings"][0]["name"]
    return [
        *[answer.status_code for answer in answers],
        client.get(f"{study}/images/0", headers=named).status_code,
        client.get(f"{study}/images/{marks('number')}").status_code,
        client.post(f"{study}/reads", json={"kind": "first", "findings": {marks("unknown"): "present"}}).status_code,
        client.post(f"{study}/reads", json={"kind": "first", "findings": {finding: "present"}}).status_code,
        client.post(f"{study}/flags", json={"reason": marks("reason")}).status_code,
        client.get(f"{study}/answer").status_code,
        client.post("/v1/studies/search", json={"search": marks.made[-20]}).status_code,
        client.get("/v1/studies", params={"search": marks("sought"), "after": marks("after")}).status_code,
        client.get("/v1/reads").status_code,
        client.get("/v1/operations").status_code,
        client.post("/v1/studies", files=broken_requests(marks)[7]).status_code,
    ]


def written_files(place: Path, running: RunningService) -> dict[str, bytes]:
    """Every file below `place`, and every one that the service holds open though it was deleted."""
    found = {str(path): path.read_bytes() for path in place.rglob("*") if path.is_file()}
    for process in [psutil.Process(running.pid), *psutil.Process(running.pid).children(recursive=True)]:
        for link in Path(f"/proc/{process.pid}/fd").iterdir():
            target = str(link.readlink())
            if target.endswith("(deleted)") and not target.startswith(("/dev/shm", "/memfd")):
                found[f"{process.pid}: {target}"] = link.read_bytes()
    return found


def spans_of(traces: Collector, requests: int) -> bytes:
    """What the collector has got, once that are the spans of so many requests."""
    for _ in range(300):
        if sum(span.kind == span.SPAN_KIND_SERVER for span in traces.spans) >= requests:
            break
        time.sleep(0.1)
    until(lambda: {"POST /v1/diagnose", "decode", "record", "GET other"} <= {span.name for span in traces.spans})
    return b"".join(traces.bodies)


def log_of(running: RunningService, requests: int) -> str:
    """The log, once it has a line of so many requests: a line is written after its answer was sent."""
    until(lambda: running.log().count('"event": "request"') >= requests, "a line of each request")
    return running.log()


def test_nothing_of_a_patient_is_found_outside_the_answers(
    service: RunningService, marks: Marks, place: Path, traces: Collector
) -> None:
    with httpx.Client(base_url=service.url, timeout=PATIENCE_S) as client:
        statuses = everything(marks, client) + stored(marks, client)
        assert set(statuses) >= {200, 404, 413, 415, 422}
        assert all(status < 500 for status in statuses), statuses
        assert len(marks.made) > 100
        metrics, model = client.get("/metrics"), client.get("/v1/model")
    assert metrics.status_code == model.status_code == 200
    assert 'consilium_requests_total{endpoint="/v1/diagnose",method="POST",status="200"} 2.0' in metrics.text
    log = log_of(service, len(statuses))
    assert marks.found_in(log.encode()) == set()
    assert marks.found_in(metrics.content + model.content) == set()
    assert marks.found_in(spans_of(traces, len(statuses))) == set()
    files = written_files(place, service)
    assert any(name.endswith("audit-log.db") for name in files)
    with closing(sqlite3.connect(place / "home" / "audit-log.db")) as log:
        kept = log.execute("SELECT categories, projections FROM monitoring").fetchall()
    assert len(kept) >= 6
    assert all({"device", "site", "unit:crp"} <= set(json.loads(one)) for one, _ in kept[:6]), kept
    assert all("fused" in json.loads(figures) for _, figures in kept)
    assert {name: marks.found_in(data) for name, data in files.items() if marks.found_in(data)} == {}


def test_a_body_under_way_lies_in_no_file(service: RunningService, marks: Marks, place: Path) -> None:
    image = marks("underway").encode() * 100_000
    head = (
        "POST /v1/diagnose HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: multipart/form-data; boundary=b\r\n"
        f"Content-Length: {len(image) + 1000}\r\n\r\n"
        f'--b\r\nContent-Disposition: form-data; name="images"; filename="{marks("slow")}"\r\n\r\n'
    )
    admitted = 'consilium_admitted_requests{queue="diagnose"} 1.0'
    with socket.create_connection(("127.0.0.1", service.port)) as connection:
        connection.sendall(head.encode() + image)
        until(lambda: admitted in httpx.get(f"{service.url}/metrics", timeout=PATIENCE_S).text)
        files = written_files(place, service)
        assert {name for name, data in files.items() if marks.found_in(data)} == set()
    until(lambda: admitted not in httpx.get(f"{service.url}/metrics", timeout=PATIENCE_S).text)
    files = written_files(place, service)
    assert {name for name, data in files.items() if marks.found_in(data)} == set()
    assert marks.found_in(service.log().encode()) == set()
