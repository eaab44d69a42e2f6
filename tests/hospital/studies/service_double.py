"""A service without a model: it keeps jobs by their idempotency keys, as the real one does, and can fail as it can."""

from __future__ import annotations

import copy
import json
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx

from consilium.api.client import AsyncClient
from service.app import openapi_examples as examples
from service.app import study_examples
from tests.consilium.api.client.test_clients import parts, sent
from tests.hospital.studies.records import CRP

Problem = dict[str, Any]
PROBLEM: Problem = {"type": "about:blank", "title": "Refused", "status": 422, "detail": "x", "instance": "urn:uuid:1"}


@dataclass
class Asked:
    """One job."""

    key: str
    records: dict[str, Any]
    images: list[bytes]
    job_id: str = field(default_factory=lambda: str(uuid.uuid4()))


@dataclass
class ServiceDouble:
    """Answers every study alike, unless `refuse` names a problem of it.

    Attributes
    ----------
    asked : list of Asked
        The jobs that were taken, each once.
    beside : dict
        The priors that were handed over, by idempotency key: for which group and study, and their files.
    kept : dict
        By idempotency key the id of a prior, which a repetition gets even after the prior was deleted.
    decodes : callable
        Whether the service can decode a prior that it has taken; None: it has not yet.
    away : bool
        Nobody answers.
    before_answer : callable
        Called with every request before it is answered; what it raises breaks the connection.
    """

    asked: list[Asked] = field(default_factory=list)
    beside: dict[str, dict[str, Any]] = field(default_factory=dict)
    kept: dict[str, str] = field(default_factory=dict)
    decodes: Callable[[list[bytes]], bool | None] = lambda _: True
    refuse: Callable[[Asked], Problem | None] = lambda _: None
    away: bool = False
    digest: str = examples.MODEL["model"]["manifest_digest"]
    before_answer: Callable[[httpx.Request], None] = lambda _: None
    submitted: int = 0

    def client(self) -> AsyncClient:
        return AsyncClient("http://service", transport=self.transport, retries=0)

    @property
    def transport(self) -> httpx.MockTransport:
        return httpx.MockTransport(self._handle)

    def _handle(self, request: httpx.Request) -> httpx.Response:
        if self.away:
            raise httpx.ConnectError("refused")
        answer = self._answer(request)
        self.before_answer(request)
        return answer

    def _answer(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path
        if path == "/v1/model":
            return httpx.Response(200, json=self.model)
        if path == "/v1/jobs":
            return httpx.Response(202, json=self._job(self._take(request)))
        if path.startswith("/v1/studies"):
            return self._shown(request)
        found = next((one for one in self.asked if one.job_id in path), None)
        if found is None:
            return httpx.Response(
                404, json={"type": "about:blank", "title": "x", "status": 404, "detail": "x", "instance": ""}
            )
        if path.endswith("/results") and request.method == "GET":
            return httpx.Response(200, content=self._lines(found))
        return httpx.Response(204) if request.method == "DELETE" else httpx.Response(200, json=self._job(found))

    def _shown(self, request: httpx.Request) -> httpx.Response:
        if request.method == "DELETE":
            self.beside = {key: one for key, one in self.beside.items() if one["id"] not in request.url.path}
            return httpx.Response(204)
        if request.url.path.endswith("/search"):
            wanted = json.loads(request.content)["beside"]
            kept = [self._summary(one) for one in self.beside.values() if one["beside"] == wanted]
            return httpx.Response(200, json=study_examples.LIST | {"studies": kept, "total": len(kept)})
        if request.method == "GET":
            return self._prior(next((one for one in self.beside.values() if one["id"] in request.url.path), None))
        files = [sent(one) for one in parts(request) if one.get_param("name", header="content-disposition") == "images"]
        prior = Asked(request.headers["Idempotency-Key"], {}, files)
        problem = self.refuse(prior)
        if problem is not None:
            problem = PROBLEM | problem
            return httpx.Response(problem["status"], json=problem)
        if prior.key not in self.kept:
            self.kept[prior.key] = str(uuid.uuid4())
            self.beside[prior.key] = {**request.url.params, "images": files, "id": self.kept[prior.key]}
        return httpx.Response(202, json=study_examples.STUDY | {"study_id": self.kept[prior.key]})

    def _prior(self, found: dict[str, Any] | None) -> httpx.Response:
        if found is None:
            return httpx.Response(404, json=PROBLEM | {"status": 404})
        decoded = self.decodes(found["images"])
        told: dict[str, Any] = {"state": "queued" if decoded is None else "stored" if decoded else "refused"}
        if decoded is False:
            told["problem"] = PROBLEM | {"field": "images[0]", "rule": "must be whole"}
        return httpx.Response(200, json=study_examples.DETAIL | told | {"study_id": found["id"]})

    @staticmethod
    def _summary(prior: dict[str, Any]) -> dict[str, Any]:
        return study_examples.LIST["studies"][0] | {"study_id": prior["id"], "state": "stored"}

    def _take(self, request: httpx.Request) -> Asked:
        self.submitted += 1
        key = request.headers["Idempotency-Key"]
        for one in self.asked:
            if one.key == key:
                return one
        *images, records = parts(request)
        (study,) = json.loads(sent(records))
        self.asked.append(Asked(key, study, [sent(image) for image in images]))
        return self.asked[-1]

    def _job(self, asked: Asked) -> dict[str, Any]:
        return examples.JOB | {
            "job_id": asked.job_id, "kind": "explain", "state": "done", "ended": "2026-01-01T00:00:00Z"
        }  # fmt: skip

    def _lines(self, asked: Asked) -> bytes:
        problem = self.refuse(asked)
        line: dict[str, Any] = {"study": 0, "answer": self.answer}
        if problem is not None:
            line = {"study": 0, "problem": PROBLEM | problem}
        count = {"studies": 1, "answered": int(problem is None), "refused": int(problem is not None)}
        return b"\n".join(json.dumps(one).encode() for one in (line, count))

    @property
    def model(self) -> dict[str, Any]:
        told = copy.deepcopy(examples.MODEL)
        told["model"]["manifest_digest"] = self.digest
        variable = told["reads"]["parts"]["observations"]["variables"][0]
        variable["codes"] = [{"code": CRP, "system": "LOINC", "unit": "mg/L", "display": "CRP"}]
        return told

    @property
    def answer(self) -> dict[str, Any]:
        given = copy.deepcopy(examples.EXPLANATION)
        given["model"]["manifest_digest"] = self.digest
        return given
