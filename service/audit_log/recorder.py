"""The audit log as the service uses it: commits on one thread beside the event loop, several answers a transaction.

The diagnoses of one batch become answers together, so they are committed together; what arrives during a commit is the
next one's.
"""

from __future__ import annotations

import asyncio
import logging
import math
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from typing import SupportsBytes, TypeVar
from uuid import UUID

from pydantic import BaseModel

from consilium.api.schemas import FeedbackAnswer, FeedbackRequest, ResultAnswer
from consilium.domain.diagnosis import Diagnosis
from consilium.domain.study import Study
from consilium.system.environment import home_folder
from service.audit_log import idempotency as claims
from service.audit_log.database import AuditLogTooNew, AuditLogUnavailable, Database, read_url, refuse_unusable
from service.audit_log.deployment_log import ModelEvent, keep_event
from service.audit_log.entries import Claim, Draft, Entry, Origin, Recordable, StudyTask, Task
from service.audit_log.processes import Processes
from service.audit_log.pseudonyms import read_keys
from service.audit_log.store import Store
from service.batching import Batcher, BatchLimits
from service.http.problems import Unavailable
from service.settings import Settings

logger = logging.getLogger("consilium.service")

Result = TypeVar("Result")
Outcome = Exception | None

_MOST_IN_ONE_COMMIT = 64
_EXPIRE_EVERY_S = 60.0
_RETRY_S = 2.0
"""How often an audit log that cannot be written is tried."""
_PROBE_EVERY_S = 10.0
"""How long nothing may have been written before it is tried whether it could be."""
_LEASE_MARGIN_S = 5.0


@dataclass(frozen=True, slots=True)
class Answered:
    """What is sent: an answer that was recorded just now, or one that was before."""

    body: bytes
    replayed: bool = False


class Recorder:
    """Records answers. `start` before anything else, `stop` after the last answer, both within the event loop."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._store: Store | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="audit-log")
        limits = BatchLimits(_MOST_IN_ONE_COMMIT, 0.0, places=sys.maxsize)
        self._commits: Batcher[Entry, Outcome] = Batcher(self._commit, self._thread, limits)
        self._processes: Processes | None = None
        self._expiring: asyncio.Task[None] | None = None
        self._unwritable = ""
        self._written = -math.inf
        # Longer than any request lasts once its body is read.
        self._lease_s = settings.answer_timeout_s + 2 * settings.audit_log_timeout_s + _LEASE_MARGIN_S

    async def start(self) -> None:
        """Read the keys, make or migrate the tables, open the queue.

        An audit log that is unavailable does not keep the service from starting: it is tried again until it is there,
        and at every answer.

        Raises
        ------
        InputError
            Where keys or URL cannot be right, nor become it.
        AuditLogTooNew
        """
        try:
            await self._run(self._open)
        except AuditLogTooNew:
            raise
        except AuditLogUnavailable:
            logger.info("the audit log is tried again until it is there")
        self._commits.start()
        self._expiring = asyncio.create_task(self._look_after())

    async def stop(self) -> None:
        """Commit what waits, then end the thread."""
        if self._expiring is not None:
            self._expiring.cancel()
            await self._commits.drain()
        if self._store is not None:
            await self._run(self._store.database.close)
        if self._processes is not None:
            self._processes.end()
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def record(
        self,
        draft: Draft,
        study: Study,
        role: str,
        diagnosis: Recordable,
        answer: BaseModel,
        for_readers: BaseModel | None = None,
    ) -> Answered:
        """Commit `answer` of the model in `role`; what this returns may be sent.

        `for_readers` is the answer as readers of a stored study get it, where that is another one.

        It loses its ``result_id`` where it need not be recorded.

        Raises
        ------
        Unavailable
            Where the audit log is down, and answers must be recorded.
        InFlight
            Where another request took the idempotency key over.
        Superseded
            Where it is a job's study, and the job is not held any more.
        """
        body = answer.model_dump_json().encode()
        readers_body = None if for_readers is None else for_readers.model_dump_json().encode()
        with self._commits.place() as place:
            outcome = await place.submit(draft.entry(study, diagnosis, body, role, readers_body))
        if outcome is None:
            return Answered(body)
        # Who sends an idempotency key is promised the same answer again, which only the audit log can give.
        if isinstance(outcome, AuditLogUnavailable) and not self._settings.audit_log_required and draft.claim is None:
            return Answered(answer.model_copy(update={"result_id": None}).model_dump_json().encode())
        raise self._for_caller(outcome)

    async def record_unsent(self, draft: Draft, study: Study, role: str, diagnosis: Diagnosis) -> None:
        """Commit the answer of a model whose answers nobody gets; lost where the audit log is down."""
        with self._commits.place() as place:
            await place.submit(draft.entry(study, diagnosis, b"", role))

    @asynccontextmanager
    async def claimed(
        self, origin: Origin, *body: SupportsBytes
    ) -> AsyncIterator[Claim | Task | StudyTask | bytes | None]:
        """The claim of a request with an idempotency key, or the answer that it got before; None where it has no key.
        A job's study is its own claim.

        `body` is what was received, in parts. A claim that the block leaves unanswered, because of an error or a
        caller who went away, is given back.

        Raises
        ------
        IdempotencyMismatch, InFlight, Unavailable
        """
        key = origin.idempotency_key
        if key is None:
            yield origin.task
            return
        asked = self._thread.submit(self._claim, origin.caller, key, body)
        try:
            claiming: asyncio.Future[Claim | bytes] = asyncio.wrap_future(asked)
            yield await self._answered(claiming)
        except BaseException:
            # Not waited for: this task may be cancelled, even amid the claim, which the thread then finishes first.
            self._thread.submit(self._release, asked)
            raise

    def note_event(self, event: ModelEvent) -> None:
        """Record that a model was loaded or refused; on any thread, and lost where the audit log is down."""
        with suppress(RuntimeError):  # The service has stopped.
            self._thread.submit(self._keep_event, event)

    async def result(self, result_id: UUID, caller: str | None = None) -> ResultAnswer:
        """What was recorded of one answer; see `Store.result`."""
        return await self._ask(lambda store: store.result(result_id, caller))

    async def add_feedback(self, feedback: FeedbackRequest, caller: str) -> FeedbackAnswer:
        """Keep what was confirmed of an answer; see `Store.add_feedback`."""
        return await self._ask(lambda store: store.add_feedback(feedback, caller))

    def _open(self) -> None:
        settings = self._settings
        url = read_url(settings.audit_log_url.get_secret_value())
        refuse_unusable(url)
        database = Database(url, settings.audit_log_timeout_s)
        self._store = Store(database, read_keys(settings.audit_log_keys), monitoring=settings.monitoring)
        try:
            self._processes = Processes(home_folder() / "processes")
        except OSError as error:
            logger.warning("idempotency keys stay claimed for %g s after a crash (%s)", self._lease_s, error.strerror)
        with self._writing():
            database.open()
            # Before any request's claim: its key may be that of a process that was killed.
            self._expire()
            claims.probe(database)

    @property
    def ready(self) -> bool:
        """Whether answers can be expected: the audit log took what was last written to it, or need not."""
        return not self._settings.audit_log_required or (self.opened.database.opened and not self._unwritable)

    @property
    def opened(self) -> Store:
        """The store itself, for whoever has threads of his own; none before `start`."""
        if self._store is None:
            raise RuntimeError("the recorder was not started")
        return self._store

    def _keep_event(self, event: ModelEvent) -> None:
        try:
            keep_event(self.opened.database, event)
        except AuditLogUnavailable as error:
            logger.warning("that version %s was %s is not recorded: %s", event.model.version, event.event, error)

    def _commit(self, entries: Sequence[Entry]) -> Sequence[Outcome]:
        """Runs on the thread. An audit log that is down fails all entries at once; the batcher would try each alone."""
        try:
            with self._writing():
                return self.opened.commit(entries, self._settings.idempotency_s)
        except AuditLogUnavailable as error:
            logger.error("%d answers not recorded: %s", len(entries), error)
            return [error] * len(entries)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Take note of whether the audit log takes what is written inside. On the thread."""
        try:
            yield
        except AuditLogUnavailable as error:
            if not self._unwritable:
                logger.error("nothing can be recorded, and the service is not ready: %s", error)
            self._unwritable = str(error)
            raise
        if self._unwritable:
            logger.warning("the audit log can be written again")
        self._unwritable, self._written = "", time.monotonic()

    def _claim(self, caller: str, idempotency_key: str, body: Sequence[SupportsBytes]) -> Claim | bytes:
        store = self.opened
        process = None if self._processes is None else self._processes.own
        return claims.claim(store.database, store.keys, caller, idempotency_key, body, self._lease_s, process)

    def _release(self, asked: Future[Claim | bytes]) -> None:
        if asked.cancelled() or asked.exception() is not None:
            return
        given = asked.result()
        try:
            if isinstance(given, Claim):
                claims.release(self.opened.database, given)
        except AuditLogUnavailable as error:
            logger.warning("a claim stays until it expires: %s", error)

    async def _look_after(self) -> None:
        """Try the audit log while it cannot be written, or has not been written for long; and expire what is over."""
        expired = time.monotonic()
        while True:
            await asyncio.sleep(_RETRY_S)
            try:
                if self._unwritable or time.monotonic() - self._written > _PROBE_EVERY_S:
                    await self._run(self._probe)
                if time.monotonic() - expired > _EXPIRE_EVERY_S:
                    await self._run(self._expire)
                    expired = time.monotonic()
            except AuditLogUnavailable as error:
                logger.debug("%s", error)  # Logged when it began.

    def _probe(self) -> None:
        with self._writing():
            claims.probe(self.opened.database)

    def _expire(self) -> None:
        database = self.opened.database
        if self._processes is not None:
            dead = self._processes.dead()
            freed = claims.free(database, dead) if dead else 0
            self._processes.forget(dead)
            if freed:
                logger.info("%d idempotency keys of processes that were killed are free again", freed)
        claims.expire(database)

    async def _ask(self, question: Callable[[Store], Result]) -> Result:
        return await self._answered(self._run(lambda: question(self.opened)))

    async def _answered(self, work: Awaitable[Result]) -> Result:
        try:
            return await work
        except AuditLogUnavailable as error:
            logger.error("%s", error)
            raise self._for_caller(error) from None

    async def _run(self, work: Callable[[], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _for_caller(self, error: Exception) -> Exception:
        """What the caller gets to know of `error`."""
        if isinstance(error, AuditLogUnavailable):
            return Unavailable("The audit log is unavailable.", self._settings.retry_after_s)
        return error
