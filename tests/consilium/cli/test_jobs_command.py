"""`consilium jobs`, from its arguments to what is sent and printed."""

from __future__ import annotations

import functools
import json
from pathlib import Path

import httpx
import pytest

from consilium.api import client as clients
from consilium.cli import main
from service.app import openapi_examples as examples
from tests.consilium.api.client.test_clients import parts, sent
from tests.consilium.api.client.test_worklists import ANSWER, COUNT, PROBLEM, ndjson

AT = ["--url", "https://consilium.hospital.example", "--token", "csl_x"]
JOB = examples.JOB
ID = str(JOB["job_id"])
Capture = pytest.CaptureFixture[str]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[httpx.Request]:
    """What the service was asked; it knows one job."""
    asked: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        if request.url.path.endswith("/results"):
            lines = b"" if request.method == "DELETE" else ndjson(PROBLEM, ANSWER, COUNT)
            return httpx.Response(200 if lines else 204, content=lines)
        return httpx.Response(202 if request.method == "POST" else 200, json=JOB)

    monkeypatch.setattr(
        clients, "Client", functools.partial(clients.Client, transport=httpx.MockTransport(handler), retries=0)
    )
    return asked


def test_a_worklist_is_handed_over_with_the_images_beside_it(
    asked: list[httpx.Request], tmp_path: Path, capsys: Capture
) -> None:
    (tmp_path / "film.dcm").write_bytes(b"DICM")
    worklist = tmp_path / "worklist.json"
    worklist.write_text(json.dumps([{"images": ["film.dcm"], "findings": ["pneumonia"]}, {"caller_reference": "o-18"}]))
    assert main(["jobs", "submit", str(worklist), *AT, "--kind", "explain"]) == 0
    assert capsys.readouterr().out.startswith(f"{ID}  {JOB['state']}: ")
    [request] = asked
    assert (request.url.params["kind"], request.headers["authorization"]) == ("explain", "Bearer csl_x")
    image, form = parts(request)
    assert sent(image) == b"DICM"
    assert [(one.get("findings"), one.get("caller_reference")) for one in json.loads(sent(form))] == [
        (["pneumonia"], None),
        (None, "o-18"),
    ]


def test_a_job_is_shown_cancelled_and_deleted(asked: list[httpx.Request], capsys: Capture) -> None:
    assert main(["jobs", "show", ID, *AT, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["job_id"] == ID
    assert main(["jobs", "cancel", ID, *AT]) == 0
    assert f"of {JOB['studies']}" in capsys.readouterr().out
    assert main(["jobs", "discard", ID, *AT]) == 0
    assert capsys.readouterr().out == f"{ID}: deleted\n"
    assert [(request.method, request.url.path) for request in asked] == [
        ("GET", f"/v1/jobs/{ID}"),
        ("DELETE", f"/v1/jobs/{ID}"),
        ("DELETE", f"/v1/jobs/{ID}/results"),
    ]


def test_results_are_a_line_of_json_per_study_in_order(asked: list[httpx.Request], capsys: Capture) -> None:
    assert main(["jobs", "results", ID, *AT]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["study"] for line in lines] == [0, 1]
    records = {line["study"]: line for line in (ANSWER, PROBLEM)}
    for line in lines:
        (kind,) = line.keys() - {"study"}
        assert kind in records[line["study"]]
    problem = next(line["problem"] for line in lines if "problem" in line)
    assert (problem["status"], problem["field"]) == (PROBLEM["problem"]["status"], PROBLEM["problem"]["field"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "WORKLIST: got"),
        ("", "must be a JSON list of studies"),
        ("{}", "must be a JSON list of studies"),
        ("[1]", "must be a JSON list of studies"),
        ("[]", "studies: got [], must be at least one"),
        ('[{"images": "film.dcm"}]', "studies[0].images: got 'str', must be a list"),
        ('[{"images": [5]}]', "studies[0].images[0]: got 'int', must be a path"),
        ('[{"images": ["nowhere.dcm"]}]', "must be a readable file (No such file"),
        ('[{"notse": []}]', "studies[0].request: got 'notse', is no known key"),
    ],
)
def test_what_is_no_worklist_is_refused_and_nothing_sent(
    asked: list[httpx.Request], tmp_path: Path, capsys: Capture, text: str | None, message: str
) -> None:
    worklist = tmp_path / "worklist.json"
    if text is not None:
        worklist.write_text(text)
    assert main(["jobs", "submit", str(worklist), *AT]) == 2
    assert message in capsys.readouterr().err
    assert not asked


def test_a_job_and_its_kind_are_looked_at_first(asked: list[httpx.Request], tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "worklist.json").write_text('[{"notes": []}]')
    assert main(["jobs", "submit", str(tmp_path / "worklist.json"), *AT, "--kind", "dream"]) == 2
    assert main(["jobs", "results", "x", *AT]) == 2
    output = capsys.readouterr().err
    assert "kind: got 'dream', must be one of diagnose, explain" in output
    assert "job_id: got 'x', must be a UUID" in output
    assert not asked
