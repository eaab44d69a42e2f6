"""The routes of stored studies: `/v1/studies` and what lies below it, and `GET /v1/reads`."""

from __future__ import annotations

import asyncio
import base64
import gzip
import hashlib
import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, TypeVar, cast, get_args

import numpy as np
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from consilium.api.schemas import (
    MAX_LINES,
    FlagRequest,
    OperationsAnswer,
    QueueFigures,
    ReadRequest,
    StudyAnswer,
    StudyFilter,
    StudySearch,
    StudySort,
    parse_request,
)
from consilium.domain.errors import InputError
from service.audit_log.audit_routes import origin_of, uuid_of
from service.audit_log.entries import Claim
from service.audit_log.idempotency import REPLAYED
from service.http.multipart import Form
from service.http.problems import NotOffered
from service.http.queries import require_known
from service.http.small_bodies import read_json
from service.serving.engine import Engine
from service.serving.worklist import MEDIA_TYPE as LINES
from service.studies.decisions import MOST_ROWS, ndjson
from service.studies.reader import group_of, reader_of, require_member
from service.studies.reader_store import parse_after
from service.studies.study_runner import Studies
from service.studies.worklines import Asked

NO_STORE = {"Cache-Control": "private, no-store"}
ENCODING = "Consilium-Encoding"
_MOST_BYTES = 1 << 16
_OF_SUBMIT = ("reading_group", "beside")
_DIGITS = 9
_FASTEST = 1
"""Of gzip's levels: the others take several times as long for a tenth less."""

Word = TypeVar("Word", bound=str)


def require_offered(studies: Studies) -> None:
    """Raise `NotOffered` where the service stores no studies."""
    if not studies.settings.studies:
        raise NotOffered("This service stores no studies: CONSILIUM_STUDIES is off.")


async def check_room(studies: Studies) -> None:
    """Raise, before a body is read, where no study could be taken."""
    await studies.ask(studies.reader_store.check_room)


async def submit(request: Request, studies: Studies, form: Form) -> Response:
    """Keep a study. The same request again gets the same answer."""
    origin, (group, beside) = origin_of(request), _for_whom(request)
    named = " ".join(request.query_params.get(name, "") for name in _OF_SUBMIT).strip()
    shape = b" ".join((named.encode(), form.shape)) if named else form.shape
    async with studies.recorder.claimed(origin, shape, form.request, *form.contents) as claim:
        if isinstance(claim, bytes):
            return _accepted(claim, {REPLAYED: "true"})
        held = claim if isinstance(claim, Claim) else None
        study = await studies.ask(studies.reader_store.receive, origin.caller, group, form, held, beside)
    studies.wake()
    return _accepted(study.model_dump_json().encode(), {})


def require_readers(request: Request) -> None:
    """Raise, before a body is read, where the query names a group that is not the caller's, or no study."""
    _for_whom(request)


def _for_whom(request: Request) -> tuple[str, str | None]:
    """The reading group, and of a prior the digest of the study that it is shown with."""
    given = request.query_params
    require_known(given, *_OF_SUBMIT)
    group, beside = given.get("reading_group"), given.get("beside")
    if group is not None:
        require_member(request, group)
    if beside is not None and not re.fullmatch(r"[0-9a-f]{64}", beside):
        raise InputError("beside", beside[:80], "must be the SHA-256 of a Study Instance UID, in lower-case hex")
    return group_of(request) if group is None else group, beside


async def worklist(request: Request, studies: Studies) -> Response:
    """A page of the worklist."""
    given = request.query_params
    if "search" in given:
        # Whatever stands in an address is logged by every proxy on the way, and what is searched for is a patient.
        raise InputError("search", "a query parameter", "must be sent to POST /v1/studies/search, in its body")
    require_known(given, "state", "sort", "after", "limit")
    asked = Asked(
        state=_state_of(given.get("state")),
        sort=cast(StudySort, _one_of(given.get("sort", "created"), "sort", get_args(StudySort))),
        after=parse_after(given.get("after")),
        limit=_limit(given.get("limit", "50"), MAX_LINES),
    )
    return _json(await studies.ask(studies.reader_store.worklist, reader_of(request), asked))


async def search(request: Request, studies: Studies) -> Response:
    """The same for studies of which label or id holds a text, or of one patient."""
    asked = parse_request(StudySearch, await read_json(request, _MOST_BYTES, studies.settings.receive_timeout_s))
    if asked.patient_id and not asked.patient_id.strip():
        raise InputError("patient_id", "blanks", "must be a Patient ID, or left out")
    found, patient = asked.search.strip(), asked.patient_id.strip()
    wanted = Asked(asked.state, found, patient, asked.sort, asked.after, asked.limit, asked.beside, asked.result_id)
    return _json(await studies.ask(studies.reader_store.worklist, reader_of(request), wanted))


def _state_of(given: str | None) -> StudyFilter | None:
    return cast(StudyFilter, _one_of(given, "state", get_args(StudyFilter))) if given else None


async def detail(request: Request, studies: Studies, engine: Engine) -> Response:
    """One study."""
    findings = [{"name": one.name, "display": one.display} for one in engine.model.findings]
    read = studies.reader_store.detail
    return _json(await studies.ask(read, uuid_of(request, "study_id"), reader_of(request), findings))


async def words(request: Request, studies: Studies, name: str) -> Response:
    """The words of one file, row by row."""
    given = request.path_params["number"]
    if not (given.isdecimal() and given.isascii()):
        raise InputError("number", given, "must be the position of a file, from 0 on")
    number = int(given[:_DIGITS])  # of so many digits there is no file
    which = uuid_of(request, "study_id"), reader_of(request), name, number
    found = await studies.ask(studies.reader_store.words, *which)
    data = found.data
    if data is None:
        data = await studies.archive.words(name, found.view, found.patient_digest)
        await studies.ask(studies.reader_store.saw_words, *which)
    body, headers = data, {ENCODING: "raw"}
    if studies.settings.studies_compressed and "gzip" in request.headers.get("accept-encoding", ""):
        body = await asyncio.to_thread(_compressed, found.view, data)
        headers = {ENCODING: "delta", "Content-Encoding": "gzip"}
    digest = base64.b64encode(hashlib.sha256(body).digest()).decode()
    headers |= {"Content-Digest": f"sha-256=:{digest}:", "Vary": "Accept-Encoding"}
    return Response(body, headers=NO_STORE | headers, media_type="application/octet-stream")


async def answer(request: Request, studies: Studies) -> Response:
    """The answer; from now on this caller has seen it."""
    body = await studies.ask(studies.reader_store.answer, uuid_of(request, "study_id"), reader_of(request))
    return Response(body, headers=NO_STORE, media_type="application/json")


async def delete(request: Request, studies: Studies) -> Response:
    """Delete a study."""
    await studies.ask(studies.reader_store.delete, uuid_of(request, "study_id"), reader_of(request))
    return Response(status_code=HTTPStatus.NO_CONTENT)


async def add_read(request: Request, studies: Studies, engine: Engine) -> Response:
    """Record what a reader decided."""
    asked = parse_request(ReadRequest, await read_json(request, _MOST_BYTES, studies.settings.receive_timeout_s))
    study_id, reader = uuid_of(request, "study_id"), reader_of(request)
    found = await studies.ask(studies.decisions.add_read, study_id, reader, asked, engine.model.findings.names)
    return _json(found, HTTPStatus.CREATED)


async def add_flag(request: Request, studies: Studies, engine: Engine) -> Response:
    """Record that a study is to be looked at again."""
    asked = parse_request(FlagRequest, await read_json(request, _MOST_BYTES, studies.settings.receive_timeout_s))
    study_id, reader = uuid_of(request, "study_id"), reader_of(request)
    found = await studies.ask(studies.decisions.add_flag, study_id, reader, asked, engine.model.findings.names)
    return _json(found, HTTPStatus.CREATED)


async def reads(request: Request, studies: Studies) -> Response:
    """Reads of everybody, a line each."""
    require_known(request.query_params, "after", "limit")
    after, limit = parse_after(request.query_params.get("after")), request.query_params.get("limit", str(MOST_ROWS))
    found = await studies.ask(studies.decisions.reads, after, _limit(limit, MOST_ROWS))
    return Response(b"".join(ndjson(found)), headers=NO_STORE, media_type=LINES)


async def views(request: Request, studies: Studies) -> Response:
    """Who saw what of a study, a line each."""
    found = await studies.ask(studies.decisions.views, uuid_of(request, "study_id"))
    lines = b"".join(one.model_dump_json().encode() + b"\n" for one in found)
    return Response(lines, headers=NO_STORE, media_type=LINES)


async def operations(request: Request, studies: Studies, engine: Engine) -> Response:
    """Figures for those who run the service."""
    del request
    counted = await studies.ask(studies.figures.counted)
    queue = {
        "diagnoses": engine.diagnoses.admitted,
        "explanations": engine.explanations.admitted,
        "studies": counted.pop("studies"),
        "jobs": counted.pop("jobs"),
    }
    return _json(OperationsAnswer(**counted, queue=QueueFigures(**queue), deployment=engine.information().deployment))


async def model_history(request: Request, studies: Studies, engine: Engine) -> Response:
    """Which models were loaded and refused, and how well the serving one's probabilities met outcomes."""
    del request
    digest = engine.model.identity.manifest_digest
    return _json(await studies.ask(studies.model_history.of, digest))


def _compressed(view: Mapping[str, Any], data: bytes) -> bytes:
    """Differences to the left neighbour, which repeat more than the words do; the first of a row as it is."""
    bits = view["bits"] // 8
    rows = np.frombuffer(data, f"<u{bits}").reshape(view["rows"], view["columns"])
    delta = np.diff(rows, axis=1, prepend=rows.dtype.type(0))
    return gzip.compress(delta.astype(f"<u{bits}").tobytes(), _FASTEST, mtime=0)


def _one_of(given: str, field: str, words: tuple[str, ...]) -> str:
    if given not in words:
        raise InputError(field, given, f"must be one of {', '.join(words)}")
    return given


def _limit(given: str, most: int) -> int:
    limit = int(given) if given.isdecimal() and given.isascii() and len(given) < 6 else 0
    if not 1 <= limit <= most:
        raise InputError("limit", given[:20], f"must be a whole number from 1 to {most}")
    return limit


def _accepted(study: bytes, headers: dict[str, str]) -> Response:
    # Relative to this route: a proxy may have put a prefix before it.
    place = f"studies/{StudyAnswer.model_validate_json(study).study_id}"
    return Response(study, HTTPStatus.ACCEPTED, NO_STORE | headers | {"Location": place}, media_type="application/json")


def _json(answer: BaseModel, status: int = HTTPStatus.OK) -> Response:
    return Response(answer.model_dump_json(), status, NO_STORE, media_type="application/json")
