"""The routes of jobs: `POST /v1/jobs`, and `GET` and `DELETE` of `/v1/jobs/{job_id}` and its `/results`."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from http import HTTPStatus
from typing import SupportsBytes, get_args

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from consilium.api.schemas import MAX_GROUP, JobAnswer, JobKind
from consilium.domain.errors import ConsiliumError, InputError
from service.audit_log.audit_routes import only_of, origin_of, uuid_of
from service.audit_log.entries import Claim
from service.audit_log.idempotency import REPLAYED
from service.http.deadlines import while_connected
from service.http.multipart import Form
from service.http.problems import NotAnswered, problem
from service.http.queries import require_known
from service.jobs.caller_store import CANCELLED, Line
from service.jobs.runner import Jobs
from service.serving.worklist import HEADERS, MEDIA_TYPE, answer_line, count_line, problem_line

logger = logging.getLogger("consilium.service")


def kind_of(request: Request) -> JobKind:
    """What is asked of each study.

    Raises
    ------
    InputError
    """
    require_known(request.query_params, "kind", "reading_group")
    given = request.query_params.get("kind", "diagnose")
    kinds: tuple[JobKind, ...] = get_args(JobKind)
    for kind in kinds:
        if kind == given:
            return kind
    raise InputError("kind", given, f"must be one of {', '.join(kinds)}")


def group_of(request: Request, kind: JobKind, *, stored: bool) -> str | None:
    """The reading group whose readers see the studies of the job; None: nobody does.

    Parameters
    ----------
    stored : bool
        Whether the service stores studies for readers.

    Raises
    ------
    InputError
    """
    group = request.query_params.get("reading_group")
    if group is None:
        return None
    if not (0 < len(group) <= MAX_GROUP and group.isprintable()):
        raise InputError("reading_group", group, f"must be 1 to {MAX_GROUP} printable characters")
    if kind != "explain":
        raise InputError("reading_group", group, "must be left out where kind is not explain: readers see explanations")
    if not stored:
        raise InputError("reading_group", group, "must be left out: this service stores no studies (CONSILIUM_STUDIES)")
    return group


async def check_room(request: Request, jobs: Jobs) -> None:
    """Raise, before a body is read, where no job of this caller could be taken."""
    await jobs.ask(jobs.caller_store.check_room, origin_of(request).caller)


async def submit(request: Request, jobs: Jobs, studies: list[Form], group: str | None) -> Response:
    """Keep `studies` as a job, for readers in `group` too. The same request again gets the same answer."""
    kind, origin = kind_of(request), origin_of(request)
    named = (kind,) if group is None else (kind, group)
    shape = b" ".join((*(name.encode() for name in named), *(form.shape for form in studies)))
    parts: list[SupportsBytes] = []
    for form in studies:
        parts += (form.request, *form.contents)
    async with jobs.recorder.claimed(origin, shape, *parts) as claim:
        if isinstance(claim, bytes):
            return _accepted(claim, {REPLAYED: "true"})
        held = claim if isinstance(claim, Claim) else None
        job = await jobs.ask(jobs.caller_store.receive, origin.caller, kind, studies, held, group)
    jobs.wake()
    return _accepted(job.model_dump_json().encode(), {})


async def show(request: Request, jobs: Jobs) -> Response:
    """How far a job is."""
    job = await jobs.ask(jobs.caller_store.job, uuid_of(request, "job_id"), only_of(request))
    return _json(job.model_dump_json().encode())


async def cancel(request: Request, jobs: Jobs) -> Response:
    """End a job."""
    job = await jobs.ask(jobs.caller_store.cancel, uuid_of(request, "job_id"), only_of(request))
    return _json(job.model_dump_json().encode())


async def results(request: Request, jobs: Jobs) -> Response:
    """The lines of a job that has ended."""
    job, lines = await jobs.ask(jobs.caller_store.lines, uuid_of(request, "job_id"), only_of(request))
    return LinesResponse(jobs, job, lines)


async def discard(request: Request, jobs: Jobs) -> Response:
    """Delete the answers of a job that has ended, and the job."""
    await jobs.ask(jobs.caller_store.discard, uuid_of(request, "job_id"), only_of(request))
    return Response(status_code=HTTPStatus.NO_CONTENT)


class LinesResponse(Response):
    """Reads lines while they are being sent, a few at a time.

    Parameters
    ----------
    lines : iterator of list of Line
        As `CallerStore.lines` gives them.
    """

    media_type = MEDIA_TYPE

    def __init__(self, jobs: Jobs, job: JobAnswer, lines: Iterator[list[Line]]) -> None:
        self.status_code = HTTPStatus.OK
        self.background = None
        self.init_headers(HEADERS)
        self._jobs = jobs
        self._job = job
        self._lines = lines
        self._unanswered: bytes | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await while_connected(Request(scope, receive), self._answer(send))
        except (ClientDisconnect, OSError):
            # The answer stays without its end: the server then closes the connection.
            logger.info("the caller who fetched a job has gone, or reads no further")
        except ConsiliumError as error:
            logger.warning("a job's lines were cut off: %s", type(error).__name__)

    async def _answer(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        while lines := await self._jobs.ask(next, self._lines, None):
            await self._send(send, b"".join(map(self._line, lines)))
        await self._send(send, count_line(self._job.studies, self._job.answered))
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _send(self, send: Send, lines: bytes) -> None:
        async with asyncio.timeout(self._jobs.settings.send_timeout_s):
            await send({"type": "http.response.body", "body": lines, "more_body": True})

    def _line(self, line: Line) -> bytes:
        if line.status is None:
            return problem_line(line.study, self._why())
        make = answer_line if line.status == HTTPStatus.OK else problem_line
        return make(line.study, line.answer)

    def _why(self) -> bytes:
        """The problem of every study that the job never came to."""
        if self._unanswered is None:
            document, _ = problem(NotAnswered(cancelled=self._job.state == CANCELLED))
            self._unanswered = document.model_dump_json(exclude_none=True).encode()
        return self._unanswered


def _accepted(job: bytes, headers: dict[str, str]) -> Response:
    # Relative to this route: a proxy may have put a prefix before it.
    place = f"jobs/{JobAnswer.model_validate_json(job).job_id}"
    return _json(job, HTTPStatus.ACCEPTED, headers | {"Location": place})


def _json(body: bytes, status: int = HTTPStatus.OK, headers: dict[str, str] | None = None) -> Response:
    return Response(body, status, headers, media_type="application/json")
