"""A worklist: several studies in one body, answered by a line each, and at the end a line that counts them.

Each study is a request of its own from here on: it takes a place among the diagnoses, is batched with whatever else
waits there, fails alone, and is recorded before its line is sent. A worklist has only so many of its studies there at
once, so that it leaves places for callers who ask about one; and while its caller reads slowly, it has none.

Lines are sent as they are ready, not in the order of the studies: nothing that was recorded waits for its neighbour.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import replace
from http import HTTPStatus

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from consilium.api.schemas import WorklistCount
from service.audit_log.entries import Origin
from service.batching import Closed
from service.http.deadlines import in_time, while_connected
from service.http.multipart import Form
from service.http.problems import Unavailable, problem
from service.serving.answering import Answering, DiagnosisPlace
from service.settings import Settings

logger = logging.getLogger("consilium.service")

MEDIA_TYPE = "application/x-ndjson"
HEADERS = {"X-Accel-Buffering": "no"}
"""A proxy that collects the answer before it passes it on would defeat its purpose."""


def answer_line(study: int, answer: bytes) -> bytes:
    """Of a study that was answered: the very bytes that were recorded."""
    return b'{"study":%d,"answer":%s}\n' % (study, answer)


def problem_line(study: int, problem: bytes) -> bytes:
    """Of a study that has no answer."""
    return b'{"study":%d,"problem":%s}\n' % (study, problem)


def count_line(studies: int, answered: int) -> bytes:
    """The last one."""
    return (
        WorklistCount(studies=studies, answered=answered, refused=studies - answered).model_dump_json().encode() + b"\n"
    )


class Worklists:
    """How many worklists are here at once; each holds a body in memory."""

    def __init__(self, settings: Settings) -> None:
        self._most = settings.worklist_queue
        self._retry_after_s = settings.retry_after_s
        self._admitted = 0

    @contextmanager
    def place(self) -> Iterator[None]:
        """Admit one.

        Raises
        ------
        Unavailable
        """
        if self._admitted >= self._most:
            raise Unavailable("Too many concurrent worklists.", self._retry_after_s)
        self._admitted += 1
        try:
            yield
        finally:
            self._admitted -= 1

    @property
    def admitted(self) -> int:
        """How many are here."""
        return self._admitted


class WorklistResponse(Response):
    """Answers `studies` while it is being sent.

    Parameters
    ----------
    studies : list of Form
    held : ExitStack
        Closed when the last line is sent, or nobody is there to read it.
    """

    media_type = MEDIA_TYPE

    def __init__(self, engine: Answering, studies: list[Form], origin: Origin, held: ExitStack) -> None:
        self.status_code = HTTPStatus.OK
        self.background = None
        self.init_headers(HEADERS)
        self._engine = engine
        self._settings = engine.settings
        self._origin = origin
        self._held = held
        self._most = len(studies)
        # Handed out one by one, so that a study which is answered is no longer in memory.
        self._studies = enumerate(studies.pop(0) for _ in range(self._most))
        self._lines: asyncio.Queue[tuple[int, bytes]] = asyncio.Queue(1)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._held:
            try:
                await while_connected(Request(scope, receive), self._answer(send))
            except* (ClientDisconnect, OSError):
                # The answer stays without its end: the server then closes the connection.
                logger.info("a worklist's caller has gone, or reads no further")

    async def _answer(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        statuses: Counter[int] = Counter()
        async with asyncio.TaskGroup() as lanes:
            for _ in range(min(self._settings.worklist_places, self._most)):
                lanes.create_task(self._lane())
            for _ in range(self._most):
                status, line = await self._lines.get()
                statuses[status] += 1
                await self._send(send, line)
                self._engine.metrics.worklist_studies.labels(str(status)).inc()
        await self._send(send, count_line(self._most, statuses[HTTPStatus.OK]))
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _send(self, send: Send, line: bytes) -> None:
        async with asyncio.timeout(self._settings.send_timeout_s):
            await send({"type": "http.response.body", "body": line, "more_body": True})

    async def _lane(self) -> None:
        """Answer one study after the other, as long as there are any."""
        for number, study in self._studies:
            await self._lines.put(await self._line(number, study))

    async def _line(self, number: int, study: Form) -> tuple[int, bytes]:
        """The status that this study would have had alone, and its line."""
        try:
            async with self._place_in_time() as place:
                answered = await self._engine.diagnose(study, place, self._origin_of(number))
        except (asyncio.CancelledError, KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # noqa: BLE001 - a compiled library's panic is no Exception
            document, _ = problem(error)
            return document.status, problem_line(number, document.model_dump_json(exclude_none=True).encode())
        return HTTPStatus.OK, answer_line(number, answered.body)

    @asynccontextmanager
    async def _place_in_time(self) -> AsyncIterator[DiagnosisPlace]:
        async with in_time(self._settings.answer_timeout_s, "The answer"):
            try:
                place = await self._engine.diagnoses.free_place()
            except Closed:
                raise Unavailable("The service is shutting down.", self._settings.retry_after_s) from None
            with place:
                yield place

    def _origin_of(self, number: int) -> Origin:
        """With an idempotency key of its own, in a worklist that has one: what was answered before is replayed."""
        key = self._origin.idempotency_key
        # No key of a caller holds a line feed, so no key of a study is the key of another request.
        return self._origin if key is None else replace(self._origin, idempotency_key=f"{key}\n{number}")
