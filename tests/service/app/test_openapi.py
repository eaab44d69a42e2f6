from __future__ import annotations

import json
import re
from typing import Any

import pytest
from pydantic import TypeAdapter

from consilium.api.schemas import (
    DiagnoseRequest,
    DiagnosisAnswer,
    DraftAnswer,
    DraftRequest,
    ExplainRequest,
    ExplanationAnswer,
    FeedbackAnswer,
    FeedbackRequest,
    JobAnswer,
    ModelInformation,
    ProblemAnswer,
    ResultAnswer,
    SearchAnswer,
    SearchRequest,
    SimilarAnswer,
    SimilarRequest,
    WorklistLine,
    parse_request,
    split_worklist,
)
from service.app.openapi import document
from service.app.routes import create_app
from service.auth.middleware import OPEN

DOORS = {
    "/v1/diagnose": "post",
    "/v1/explain": "post",
    "/v1/draft": "post",
    "/v1/similar": "post",
    "/v1/search": "post",
    "/v1/results/{result_id}": "get",
    "/v1/feedback": "post",
    "/v1/model": "get",
    "/v1/jobs": "post",
    "/v1/jobs/{job_id}": "get",
}
ANSWERS = {
    "/v1/diagnose": DiagnosisAnswer,
    "/v1/explain": ExplanationAnswer,
    "/v1/draft": DraftAnswer,
    "/v1/similar": SimilarAnswer,
    "/v1/search": SearchAnswer,
    "/v1/results/{result_id}": ResultAnswer,
    "/v1/feedback": FeedbackAnswer,
    "/v1/model": ModelInformation,
    "/v1/jobs": JobAnswer,
    "/v1/jobs/{job_id}": JobAnswer,
}
MADE = {"/v1/feedback": "201", "/v1/jobs": "202"}


@pytest.fixture(scope="module")
def described() -> dict[str, Any]:
    schema: dict[str, Any] = json.loads(document(create_app()))
    return schema


def resolved(node: Any, described: dict[str, Any]) -> Any:
    """`node` with every reference replaced by what it names; a dangling one raises KeyError."""
    if isinstance(node, dict) and "$ref" in node:
        place: Any = described
        for step in node["$ref"].removeprefix("#/").split("/"):
            place = place[step]
        return resolved(place, described)
    if isinstance(node, dict):
        return {key: resolved(value, described) for key, value in node.items()}
    if isinstance(node, list):
        return [resolved(value, described) for value in node]
    return node


def test_every_reference_leads_somewhere(described: dict[str, Any]) -> None:
    resolved(described["paths"], described)


@pytest.mark.parametrize(("path", "method"), DOORS.items())
def test_the_example_of_every_answer_is_one(described: dict[str, Any], path: str, method: str) -> None:
    answers = described["paths"][path][method]["responses"]
    media = answers[MADE.get(path, "200")]["content"]["application/json"]
    ANSWERS[path].model_validate(media["example"])
    assert media["schema"]["$ref"].endswith(f"/{ANSWERS[path].__name__}")


@pytest.mark.parametrize(
    ("path", "model"),
    [
        ("/v1/diagnose", DiagnoseRequest),
        ("/v1/explain", ExplainRequest),
        ("/v1/draft", DraftRequest),
        ("/v1/similar", SimilarRequest),
        ("/v1/search", SearchRequest),
    ],
)
def test_the_example_of_every_request_is_one(described: dict[str, Any], path: str, model: type[Any]) -> None:
    media = described["paths"][path]["post"]["requestBody"]["content"]["multipart/form-data"]
    parse_request(model, json.dumps(media["example"]["request"]).encode())
    schema = resolved(media["schema"], described)
    assert set(schema["properties"]) == {"images", "ecgs", "volumes", "sounds", "request"}
    assert schema["additionalProperties"] is schema["properties"]["request"]["additionalProperties"] is False
    assert set(schema["properties"]["request"]["properties"]) == set(model.model_fields)


def test_a_worklist_is_described_by_its_parts_and_its_lines(described: dict[str, Any]) -> None:
    batch = described["paths"]["/v1/diagnose/batch"]["post"]
    media = resolved(batch["requestBody"]["content"]["multipart/form-data"], described)
    for part in split_worklist(json.dumps(media["example"]["requests"]).encode(), 2):
        parse_request(DiagnoseRequest, part)
    assert set(media["schema"]["properties"]["requests"]["items"]["properties"]) == set(DiagnoseRequest.model_fields)
    (names,) = (name for name in media["schema"]["patternProperties"] if "images" in name)
    assert re.search(names, "images.0")
    assert re.search(names, "images.31")
    assert not any(re.search(names, name) for name in ("images", "images.01", "images.x", "my-images.0"))
    answer = resolved(batch["responses"]["200"]["content"]["application/x-ndjson"], described)
    lines = [TypeAdapter[WorklistLine](WorklistLine).validate_json(line) for line in answer["example"].splitlines()]
    assert [type(line).__name__ for line in lines] == ["WorklistProblem", "WorklistAnswer", "WorklistCount"]
    kinds = [set(line["properties"]) for line in answer["schema"]["contentSchema"]["anyOf"]]
    assert kinds == [{"study", "answer"}, {"study", "problem"}, {"studies", "answered", "refused"}]
    assert set(batch["responses"]) == {"200", "400", "401", "403", "408", "413", "415", "422", "429", "503"}
    assert [one["name"] for one in batch["parameters"]] == ["Idempotency-Key"]


def test_the_routes_of_the_audit_log_are_described(described: dict[str, Any]) -> None:
    feedback = described["paths"]["/v1/feedback"]["post"]
    media = feedback["requestBody"]["content"]["application/json"]
    parse_request(FeedbackRequest, json.dumps(media["example"]).encode())
    assert set(resolved(media["schema"], described)["properties"]) == {"result_id", "findings", "influenced", "time"}
    result = described["paths"]["/v1/results/{result_id}"]["get"]
    assert [(one["name"], one["in"]) for one in result["parameters"]] == [("result_id", "path")]
    for answers in (feedback["responses"], result["responses"]):
        for status in ("404", "422", "503"):
            ProblemAnswer.model_validate(answers[status]["content"]["application/problem+json"]["example"])
    assert "200" not in feedback["responses"]


def test_jobs_are_described_by_their_bodies_their_kinds_and_their_lines(described: dict[str, Any]) -> None:
    submit = described["paths"]["/v1/jobs"]["post"]
    media = resolved(submit["requestBody"]["content"]["multipart/form-data"], described)
    kinds = [set(kind["properties"]) for kind in media["schema"]["properties"]["requests"]["items"]["anyOf"]]
    assert kinds == [set(DiagnoseRequest.model_fields), set(ExplainRequest.model_fields)]
    assert [(one["name"], one["in"]) for one in submit["parameters"]] == [
        ("kind", "query"),
        ("reading_group", "query"),
        ("Idempotency-Key", "header"),
    ]
    assert set(submit["responses"]) == {"202", "400", "401", "403", "408", "409", "413", "415", "422", "429", "503"}
    assert "Location" in submit["responses"]["202"]["headers"]
    one = described["paths"]["/v1/jobs/{job_id}"]
    fetch = described["paths"]["/v1/jobs/{job_id}/results"]["get"]
    for operation, own in ((one["get"], set()), (one["delete"], set()), (fetch, {"409"})):
        assert [(given["name"], given["in"]) for given in operation["parameters"]] == [("job_id", "path")]
        assert set(operation["responses"]) == {"200", "401", "403", "404", "422", "429", "503"} | own
    discard = described["paths"]["/v1/jobs/{job_id}/results"]["delete"]
    assert set(discard["responses"]) == {"204", "401", "403", "404", "409", "422", "429", "503"}
    answer = resolved(fetch["responses"]["200"]["content"]["application/x-ndjson"], described)
    kinds = [set(line["properties"]) for line in answer["schema"]["contentSchema"]["anyOf"]]
    assert kinds == [{"study", "answer"}, {"study", "answer"}, {"study", "problem"}, {"studies", "answered", "refused"}]


def test_the_idempotency_key_is_a_header_of_diagnose_alone(described: dict[str, Any]) -> None:
    (parameter,) = described["paths"]["/v1/diagnose"]["post"]["parameters"]
    assert (parameter["name"], parameter["in"]) == ("Idempotency-Key", "header")
    assert "parameters" not in described["paths"]["/v1/explain"]["post"]


@pytest.mark.parametrize("path", ["/v1/diagnose", "/v1/explain", "/v1/draft", "/v1/similar", "/v1/search"])
def test_every_problem_is_documented_with_an_example(described: dict[str, Any], path: str) -> None:
    answers = described["paths"][path]["post"]["responses"]
    own = {"/v1/diagnose": {"409"}, "/v1/similar": {"404"}, "/v1/search": {"404"}}.get(path, set())
    known = {"200", "400", "401", "403", "408", "413", "415", "422", "429", "503", "504"}
    assert set(answers) == known | own
    for status, answer in answers.items():
        if status != "200":
            example = ProblemAnswer.model_validate(answer["content"]["application/problem+json"]["example"])
            assert example.status == int(status)
    assert "Retry-After" in answers["503"]["headers"]
    assert "Retry-After" in answers["429"]["headers"]


def test_everything_but_health_asks_for_a_token(described: dict[str, Any]) -> None:
    (scheme,) = (name for asked in described["security"] for name in asked)
    assert described["components"]["securitySchemes"][scheme] == {"type": "http", "scheme": "bearer"}
    for path, methods in described["paths"].items():
        for operation in methods.values():
            assert (operation.get("security") == []) == (path in OPEN), path
            assert path in OPEN or {"401", "403", "429"} <= set(operation["responses"])


def test_the_card_is_described_as_a_page(described: dict[str, Any]) -> None:
    answers = described["paths"]["/v1/model/card"]["get"]["responses"]
    assert set(answers) == {"200", "401", "403", "404", "429", "503"}
    assert set(answers["200"]["content"]) == {"text/html"}
    problem = ProblemAnswer.model_validate(answers["404"]["content"]["application/problem+json"]["example"])
    assert (problem.status, problem.type) == (404, "urn:consilium:problem:not-found")
