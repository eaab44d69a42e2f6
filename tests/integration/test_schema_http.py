"""Schemathesis makes requests of the OpenAPI document and holds the running service's answers against it.

Most requests break a rule of the document on purpose. Whatever is asked, the answer's status, kind, headers and body
are those that the document promises.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import strategies as st
from pydantic import TypeAdapter
from schemathesis import Case
from schemathesis.checks import CheckFunction, load_all_checks
from schemathesis.config import ChecksConfig, GenerationConfig, ProjectConfig, ProjectsConfig, SchemathesisConfig

from consilium.api.schemas import WorklistLine
from service.app import openapi
from service.app.launch import RunningService
from service.app.routes import create_app
from service.auth.api_keys import create_key
from service.scopes import Scope
from tests.consilium.formats.dicom.dicom_files import dicom_file, jpeg, ramp
from tests.consilium.tiny_index import write_tiny_index
from tests.integration.test_service_http import RECORDS, form, png
from tests.patience import PATIENCE_S

load_all_checks()

from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance  # noqa: E402

EXAMPLES = 40
"""Requests made at random for each door, beside those that cover its document rule by rule."""


REFUSED = [*(400, 401, 403, 404, 405, 406, 409, 415, 422, 428, 429), 413]
"""Statuses that refuse what breaks the document; the last, of a list that is too long, is none of Schemathesis' own."""


def sent(*whole: bytes) -> st.SearchStrategy[Any]:
    """The files of one request: whole ones, and some that are cut off."""
    one = st.sampled_from(whole)
    cut = st.builds(lambda file, share: file[: int(share * len(file))], one, st.floats(0, 1))
    return st.lists(one | cut, max_size=3)


schemathesis.openapi.media_type("application/dicom", sent(dicom_file(ramp()), dicom_file(ramp(bits=8))))
schemathesis.openapi.media_type("image/png", sent(png(1, 64)))
schemathesis.openapi.media_type("image/jpeg", sent(jpeg(ramp(bits=8))))

NOT_HELD: dict[str, list[CheckFunction]] = {
    # A study may keep every rule that JSON Schema can express and still break a clinical one: nothing that the model
    # reads, a unit that does not fit the code, a note from the future, a file cut off.
    "/v1/diagnose": [positive_data_acceptance],
    "/v1/explain": [positive_data_acceptance],
    "/v1/draft": [positive_data_acceptance],
    "/v1/similar": [positive_data_acceptance],
    "/v1/search": [positive_data_acceptance],
    # What is refused of a stored study is told when it is read.
    "/v1/studies": [positive_data_acceptance, negative_data_rejection],
    # A read that is there.
    "/v1/reads": [positive_data_acceptance],
    # As at feedback; and a parameter whose value is an empty list does not stand in the address.
    "/v1/sign-ins": [positive_data_acceptance, negative_data_rejection],
    # `after` must be of an earlier page.
    "/v1/studies/search": [positive_data_acceptance],
    # Findings are those of the model; a first read is followed by revised ones.
    "/v1/studies/{study_id}/reads": [positive_data_acceptance],
    "/v1/studies/{study_id}/flags": [positive_data_acceptance],
    # A moment may be written in any way that JSON Schema has no word for.
    "/v1/feedback": [positive_data_acceptance],
    # As at the first of them; and a study that breaks a rule is refused in its own line of a whole answer.
    "/v1/diagnose/batch": [positive_data_acceptance, negative_data_rejection],
    "/v1/jobs": [positive_data_acceptance, negative_data_rejection],
}
"""Checks that do not hold at a door, with the reason. Every other check holds at every door."""

schema = schemathesis.openapi.from_dict(
    json.loads(openapi.document(create_app())),
    config=SchemathesisConfig(
        projects=ProjectsConfig(
            default=ProjectConfig(
                checks=ChecksConfig.from_dict({"negative_data_rejection": {"expected-statuses": REFUSED}}),
                generation=GenerationConfig(deterministic=True, max_examples=EXAMPLES, database="none"),
            )
        )
    ),
)


@pytest.fixture(scope="module")
def client(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A caller who may ask everything that the document describes."""
    keys = tmp_path_factory.mktemp("keys") / "keys.json"
    token = create_key(keys, "schemathesis", [Scope.READ, Scope.DIAGNOSE, Scope.ADMIN])[1]
    index, _ = write_tiny_index(tmp_path_factory.mktemp("search"))
    settings = {"keys": keys, "model_threads": 1, "requests_per_minute": 1_000_000, "jobs_per_caller": 1000}
    settings |= {"search_index": index, "studies": True}
    with (
        RunningService(tiny_folder, settings) as running,
        httpx.Client(base_url=running.url, headers={"Authorization": f"Bearer {token}"}, timeout=PATIENCE_S) as client,
    ):
        yield client


def answers_are_as_described(method: str, path: str) -> Any:
    """The test of one operation."""

    def test(case: Case, client: httpx.Client) -> None:
        assert (case.operation.path, case.operation.method) == (path, method)
        case.call_and_validate(
            base_url=str(client.base_url),
            headers={"Authorization": client.headers["Authorization"]},
            excluded_checks=NOT_HELD.get(path, []),
            timeout=PATIENCE_S,
        )

    return schema.include(method=method.upper(), path=path).parametrize()(test)


# One test function each: Schemathesis gives all operations of one the same name, and pytest-xdist runs a name once.
for _path, _methods in schema.raw_schema["paths"].items():
    for _method in _methods:
        _name = re.sub(r"\W+", "_", f"test_answers_of {_method} {_path}").strip("_")
        globals()[_name] = answers_are_as_described(_method, _path)


def test_what_is_asked_as_it_should_be_is_answered_as_the_document_describes_it(client: httpx.Client) -> None:
    study = form(RECORDS, dicom_file(ramp()), png(1, 64))
    one, other = RECORDS, {"notes": [{"kind": "history", "text": "cough"}], "caller_reference": "x"}
    worklist = [("requests", (None, json.dumps([one, other]), "application/json")), ("images.1", ("x", png(2, 64)))]
    body = client.post("/v1/diagnose", files=study, headers={"Idempotency-Key": "one"}).json()
    feedback = {"result_id": body["result_id"], "findings": {body["findings"][0]["finding"]: "present"}}
    job = client.post("/v1/jobs", files=worklist).json()["job_id"]
    while client.get(f"/v1/jobs/{job}").json()["state"] != "done":
        time.sleep(0.05)
    stored = client.post("/v1/studies", files=study)
    of_study = f"/v1/studies/{stored.json()['study_id']}"
    while client.get(of_study).json()["state"] != "answered":
        time.sleep(0.05)
    read = {"kind": "first", "findings": feedback["findings"]}
    answers = {
        "/v1/diagnose": client.post("/v1/diagnose", files=study, headers={"Idempotency-Key": "one"}),
        "/v1/diagnose/batch": client.post("/v1/diagnose/batch", files=worklist),
        "/v1/explain": client.post("/v1/explain", files=study),
        "/v1/draft": client.post("/v1/draft", files=study),
        "/v1/similar": client.post("/v1/similar", files=study),
        "/v1/search": client.post("/v1/search", files=study),
        "/v1/feedback": client.post("/v1/feedback", json=feedback),
        "/v1/results/{result_id}": client.get(f"/v1/results/{body['result_id']}"),
        "/v1/jobs": client.post("/v1/jobs", files=worklist, params={"kind": "explain"}),
        "/v1/jobs/{job_id}": client.get(f"/v1/jobs/{job}"),
        "/v1/jobs/{job_id}/results": client.get(f"/v1/jobs/{job}/results"),
        "/v1/studies": client.get("/v1/studies", params={"state": "waiting"}),
        "/v1/studies/search": client.post("/v1/studies/search", json={"search": "x"}),
        "/v1/studies/{study_id}": client.get(of_study),
        "/v1/studies/{study_id}/images/{number}": client.get(f"{of_study}/images/0"),
        "/v1/studies/{study_id}/reads": client.post(f"{of_study}/reads", json=read),
        "/v1/studies/{study_id}/flags": client.post(f"{of_study}/flags", json={"reason": "image_quality"}),
        "/v1/studies/{study_id}/answer": client.get(f"{of_study}/answer"),
        "/v1/reads": client.get("/v1/reads"),
        "/v1/reads/views/{study_id}": client.get(f"/v1/reads/views/{stored.json()['study_id']}"),
        "/v1/operations": client.get("/v1/operations"),
        "/v1/sessions": client.get("/v1/sessions"),
        "/v1/sessions/{session_id}": client.delete("/v1/sessions/7c0b3ad0-4f0e-4a53-9d0c-3a1de6e0f9b1"),
        "/v1/sign-ins": client.get("/v1/sign-ins"),
        "/v1/model": client.get("/v1/model"),
        "/v1/model/history": client.get("/v1/model/history"),
        "/v1/model/card": client.get("/v1/model/card"),
        "/v1/monitor": client.get("/v1/monitor"),
        "/v1/monitor/report": client.get("/v1/monitor/report"),
        "/livez": client.get("/livez"),
        "/readyz": client.get("/readyz"),
    }
    assert set(answers) == set(schema.raw_schema["paths"])
    others = {
        "/v1/studies/{study_id}/reads": 201,
        "/v1/studies/{study_id}/flags": 201,
        "/v1/sessions/{session_id}": 404,
    }
    others |= {"/v1/feedback": 201, "/v1/jobs": 202, "/v1/monitor": 403, "/v1/monitor/report": 403}
    for path, answer in answers.items():
        assert answer.status_code == others.get(path, 200), answer.text
        answer.request.read()  # which a multipart request was not, and Schemathesis reads it, too
        schema[path][answer.request.method].validate_response(answer)
    for path in ("/v1/diagnose/batch", "/v1/jobs/{job_id}/results"):
        for line in answers[path].text.splitlines():
            TypeAdapter[WorklistLine](WorklistLine).validate_json(line)
    for method, place, status in (("DELETE", "", 200), ("DELETE", "/results", 204)):
        answer = client.request(method, f"/v1/jobs/{job}{place}")
        assert answer.status_code == status, answer.text
        schema[f"/v1/jobs/{{job_id}}{place}"][method].validate_response(answer)


def test_the_running_service_shows_the_document_that_is_tested(client: httpx.Client) -> None:
    assert client.get("/openapi.json").json() == schema.raw_schema


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1", 404),
        ("GET", "/v1/", 404),
        ("POST", "/v1/diagnos", 404),
        ("GET", "/v1/results/", 404),
        ("GET", "/v1/results/a%0Ab", 404),
        ("GET", "/v1/diagnose", 405),
        ("DELETE", "/v1/results/7c0b3ad0-4f0e-4a53-9d0c-3a1de6e0f9b1", 405),
        ("PATCH", "/v1/model", 405),
    ],
)
def test_an_unknown_route_is_answered_with_a_problem(client: httpx.Client, method: str, path: str, status: int) -> None:
    answer = client.request(method, path)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    assert answer.json()["status"] == status
    assert status != 405 or answer.headers["allow"]
