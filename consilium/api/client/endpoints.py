"""Every call of the service as an exchange; what the blocking client and the asynchronous one share."""

from __future__ import annotations

import json
import ssl
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from http import HTTPStatus
from typing import Any, Generic, TypeVar
from urllib.parse import urlencode

import httpx

from consilium.api.client.multipart import Files, FormParts, Study, form, worklist_form
from consilium.api.client.ndjson import WorklistResult, worklist_reader
from consilium.api.client.retry import Attempt, Exchange, Patience, exchange, once, reader
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
    JobKind,
    ModelHistoryAnswer,
    ModelInformation,
    OperationsAnswer,
    ReadAnswer,
    ReadRequest,
    ResultAnswer,
    SearchAnswer,
    SearchRequest,
    SimilarAnswer,
    SimilarRequest,
    StudyAnswer,
    StudyDetail,
    StudyList,
    StudySearch,
    parse_request,
)
from consilium.domain.errors import InputError, ServiceProblem
from consilium.domain.study import identifier_digest

Token = str | Callable[[], str] | None
"""A token, or what gives one before every attempt, where tokens end."""

_CONNECT_S = 10.0
_AS_THEY_ARE = {"Accept-Encoding": "identity"}
"""The service sends compressed words in another form."""


Connection = TypeVar("Connection")
Transport = TypeVar("Transport")


class Calls(ABC, Generic[Connection, Transport]):
    """Both clients, but for how they send and wait.

    Parameters
    ----------
    url : str
        Where the service answers: ``https://consilium.hospital.example``, with a path where a proxy gives it one.
    token : str or callable, optional
        API key or token of an issuer; a callable is asked before every attempt.
    timeout : float
        Seconds without a byte after which an attempt is given up.
    retries : int
        Attempts after the first, where the connection broke or the service answered 429, 503 or 504.
    patience : float
        Most seconds spent waiting between attempts.
    verify : ssl.SSLContext or bool
        How the service's certificate is checked.
    transport : httpx.BaseTransport or httpx.AsyncBaseTransport, optional
        What carries the requests; the network unless given.
    """

    def __init__(
        self,
        url: str,
        *,
        token: Token = None,
        timeout: float = 120.0,
        retries: int = 4,
        patience: float = 60.0,
        verify: ssl.SSLContext | bool = True,
        transport: Transport | None = None,
    ) -> None:
        if retries < 0:
            raise InputError("retries", retries, "must be 0 or more")
        self._token = token
        self._patience = Patience(retries, patience)
        self._client = self._connection(
            base_url=_base(url),
            timeout=httpx.Timeout(timeout, connect=min(timeout, _CONNECT_S)),
            verify=verify,
            transport=transport,
        )

    @staticmethod
    @abstractmethod
    def _connection(**options: Any) -> Connection:
        """One of httpx's clients."""

    def _arguments(self, attempt: Attempt) -> dict[str, Any]:
        """Of httpx's `request`."""
        token = self._token() if callable(self._token) else self._token
        headers = dict(attempt.headers) | ({} if token is None else {"Authorization": f"Bearer {token}"})
        return {"method": attempt.method, "url": attempt.path, "headers": headers, **attempt.body}

    def _diagnose(self, files: Files, request: DiagnoseRequest) -> Exchange[DiagnosisAnswer]:
        return exchange(_post("/v1/diagnose", form(files, request)), reader(DiagnosisAnswer), self._patience)

    def _diagnose_batch(self, studies: Sequence[Study]) -> Exchange[list[WorklistResult]]:
        attempt = _post("/v1/diagnose/batch", worklist_form(studies))
        return exchange(attempt, worklist_reader(len(studies)), self._patience)

    def _explain(self, files: Files, request: ExplainRequest) -> Exchange[ExplanationAnswer]:
        return exchange(_post("/v1/explain", form(files, request)), reader(ExplanationAnswer), self._patience)

    def _draft(self, files: Files, request: DraftRequest) -> Exchange[DraftAnswer]:
        return exchange(_post("/v1/draft", form(files, request)), reader(DraftAnswer), self._patience)

    def _similar(self, files: Files, request: SimilarRequest) -> Exchange[SimilarAnswer]:
        return exchange(_post("/v1/similar", form(files, request)), reader(SimilarAnswer), self._patience)

    def _search(self, files: Files, request: SearchRequest) -> Exchange[SearchAnswer]:
        return exchange(_post("/v1/search", form(files, request)), reader(SearchAnswer), self._patience)

    def _model(self) -> Exchange[ModelInformation]:
        return exchange(Attempt("GET", "/v1/model"), reader(ModelInformation), self._patience)

    def _model_history(self) -> Exchange[ModelHistoryAnswer]:
        return exchange(Attempt("GET", "/v1/model/history"), reader(ModelHistoryAnswer), self._patience)

    def _submit(
        self, studies: Sequence[Study], kind: JobKind, key: str | None = None, group: str | None = None
    ) -> Exchange[JobAnswer]:
        asked = {"kind": kind, **({} if group is None else {"reading_group": group})}
        attempt = _post(f"/v1/jobs?{urlencode(asked)}", worklist_form(studies), key)
        return exchange(attempt, reader(JobAnswer), self._patience)

    def _job(self, job_id: uuid.UUID | str) -> Exchange[JobAnswer]:
        return exchange(Attempt("GET", _place("jobs", "job_id", job_id)), reader(JobAnswer), self._patience)

    def _job_results(self, job_id: uuid.UUID | str) -> Exchange[list[WorklistResult]]:
        attempt = Attempt("GET", f"{_place('jobs', 'job_id', job_id)}/results")
        return exchange(attempt, worklist_reader(), self._patience)

    def _cancel(self, job_id: uuid.UUID | str) -> Exchange[JobAnswer]:
        return exchange(Attempt("DELETE", _place("jobs", "job_id", job_id)), reader(JobAnswer), self._patience)

    def _discard(self, job_id: uuid.UUID | str) -> Exchange[None]:
        attempt = Attempt("DELETE", f"{_place('jobs', 'job_id', job_id)}/results")
        return exchange(attempt, lambda _: None, self._patience)

    def _result(self, result_id: uuid.UUID | str) -> Exchange[ResultAnswer]:
        attempt = Attempt("GET", _place("results", "result_id", result_id))
        return exchange(attempt, reader(ResultAnswer), self._patience)

    def _feedback(
        self,
        result_id: uuid.UUID | str,
        findings: Mapping[str, str],
        influenced: bool | None,
        time: datetime | str | None,
    ) -> Exchange[FeedbackAnswer]:
        moment = time.isoformat() if isinstance(time, datetime) else time
        given = {
            "result_id": str(result_id),
            "findings": dict(findings),
            **({} if influenced is None else {"influenced": influenced}),
            **({} if moment is None else {"time": moment}),
        }
        asked = parse_request(FeedbackRequest, json.dumps(given).encode())
        # An older service knows no more than what is given.
        body = {"content": asked.model_dump_json(exclude_unset=True).encode()}
        headers = {"Content-Type": "application/json"}
        attempt = Attempt("POST", "/v1/feedback", headers, body, repeatable=False)
        return exchange(attempt, reader(FeedbackAnswer), self._patience)

    def _submit_study(
        self,
        sent: tuple[Files, ExplainRequest],
        key: str | None = None,
        group: str | None = None,
        beside: str | None = None,
    ) -> Exchange[StudyAnswer]:
        asked = {
            **({} if group is None else {"reading_group": group}),
            # Not the UID itself: addresses are logged.
            **({} if beside is None else {"beside": str(identifier_digest(beside))}),
        }
        path = f"/v1/studies?{urlencode(asked)}" if asked else "/v1/studies"
        return exchange(_post(path, form(*sent), key), reader(StudyAnswer), self._patience)

    def _study(self, study_id: uuid.UUID | str) -> Exchange[StudyDetail]:
        return exchange(Attempt("GET", _place("studies", "study_id", study_id)), reader(StudyDetail), self._patience)

    def _studies(self, given: Mapping[str, object]) -> Exchange[StudyList]:
        # Not sent as an address: what is searched for may be a patient's name.
        asked = parse_request(StudySearch, json.dumps(given, default=str).encode())
        body = {"content": asked.model_dump_json(exclude_unset=True).encode()}
        attempt = Attempt("POST", "/v1/studies/search", {"Content-Type": "application/json"}, body)
        return exchange(attempt, reader(StudyList), self._patience)

    def _study_words(self, study_id: uuid.UUID | str, number: int, kind: str) -> Exchange[bytes]:
        attempt = Attempt("GET", f"{_place('studies', 'study_id', study_id)}/{kind}/{number}", _AS_THEY_ARE)
        return exchange(attempt, lambda response: response.content, self._patience)

    def _study_answer(self, study_id: uuid.UUID | str) -> Exchange[ExplanationAnswer]:
        attempt = Attempt("GET", f"{_place('studies', 'study_id', study_id)}/answer")
        return exchange(attempt, reader(ExplanationAnswer), self._patience)

    def _read(self, study_id: uuid.UUID | str, findings: Mapping[str, str], kind: str) -> Exchange[ReadAnswer]:
        given = json.dumps({"kind": kind, "findings": dict(findings)}).encode()
        body = {"content": parse_request(ReadRequest, given).model_dump_json().encode()}
        place = f"{_place('studies', 'study_id', study_id)}/reads"
        attempt = Attempt("POST", place, {"Content-Type": "application/json"}, body, repeatable=False)
        return exchange(attempt, reader(ReadAnswer), self._patience)

    def _delete_study(self, study_id: uuid.UUID | str) -> Exchange[None]:
        attempt = Attempt("DELETE", _place("studies", "study_id", study_id))
        return exchange(attempt, lambda _: None, self._patience)

    def _reads(self) -> Exchange[list[ReadAnswer]]:
        found: list[ReadAnswer] = []
        while True:
            place = f"/v1/reads?after={found[-1].read_id}" if found else "/v1/reads"
            page = yield from exchange(Attempt("GET", place), _read_lines, self._patience)
            if not page:
                return found
            found += page

    def _operations(self) -> Exchange[OperationsAnswer]:
        return exchange(Attempt("GET", "/v1/operations"), reader(OperationsAnswer), self._patience)

    def _card(self) -> Exchange[str | None]:
        try:
            return (
                yield from exchange(Attempt("GET", "/v1/model/card"), lambda response: response.text, self._patience)
            )
        except ServiceProblem as problem:
            if problem.status != HTTPStatus.NOT_FOUND:
                raise
            return None

    def _ready(self) -> Exchange[bool]:
        outcome = yield from once(Attempt("GET", "/readyz"))
        return isinstance(outcome, httpx.Response) and outcome.status_code == httpx.codes.OK


def _read_lines(response: httpx.Response) -> list[ReadAnswer]:
    read = reader(ReadAnswer)
    lines = response.content.splitlines()
    return [read(httpx.Response(response.status_code, content=line)) for line in lines if line.strip()]


def _base(url: str) -> httpx.URL:
    try:
        base = httpx.URL(url)
    except (httpx.InvalidURL, TypeError):
        raise InputError("url", url, "must be an address") from None
    if base.scheme not in ("http", "https") or not base.host or base.query or base.fragment:
        raise InputError("url", url, "must be an http or https address without a query")
    if base.userinfo:
        raise InputError("url", f"{base.scheme}://...@{base.host}", "must hold no name and password; give a token")
    return base


def _place(what: str, field: str, given: uuid.UUID | str) -> str:
    try:
        return f"/v1/{what}/{uuid.UUID(str(given))}"
    except ValueError:
        raise InputError(field, given, "must be a UUID") from None


def _post(path: str, parts: FormParts, key: str | None = None) -> Attempt:
    """With a `key`, one of its own unless given, by which the service knows the next attempt for the same request."""
    return Attempt("POST", path, {"Idempotency-Key": str(uuid.uuid4()) if key is None else key}, {"files": parts})
