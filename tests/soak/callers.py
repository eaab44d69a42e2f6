"""Callers: as many at once as are asked for, on a thread of their own, until every request has had its answer.

A request that is asked to come again, or is cut off, comes again with the same idempotency key.
"""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count, cycle
from types import TracebackType

import httpx

from tests.soak.hostile import Hostile
from tests.soak.studies import Asked, Probabilities

RETRYABLE = frozenset({409, 503, 504})
"""Statuses that mean: come again."""
_PATIENCE_S = 300.0


@dataclass(frozen=True, slots=True)
class Retry:
    """An attempt that was to be made again, because of a status or a broken connection. Times are `time.monotonic`."""

    reason: str
    begun: float
    ended: float


@dataclass(frozen=True, slots=True)
class Answered:
    """One acknowledged answer; `begun` and `ended` are those of the attempt that got it."""

    study: int
    result_id: str
    version: str
    manifest_digest: str
    input_digests: dict[str, str]
    probabilities: Probabilities
    begun: float
    ended: float


@dataclass(slots=True)
class Outcome:
    """Everything that callers received."""

    answers: list[Answered] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)
    retried: list[Retry] = field(default_factory=list)
    """Every first attempt that was made again."""
    attempts: Counter[str] = field(default_factory=Counter)
    """All attempts that were made again, by reason."""
    wrong: list[str] = field(default_factory=list)
    """Answers that no caller should have had."""


class Callers:
    """Sends `requests` requests; a context, in which they are under way.

    Parameters
    ----------
    hostile_share : float
        Of the requests, how many are `hostile` ones. Which, and in which order, the `seed` says.
    """

    def __init__(
        self,
        url: str,
        token: str,
        studies: Sequence[Asked],
        hostile: Sequence[Hostile],
        *,
        requests: int,
        concurrency: int,
        hostile_share: float,
        seed: int = 0,
    ) -> None:
        self.outcome = Outcome()
        self.requests = requests
        self.allowed = requests
        """How many requests may begin."""
        self._url, self._headers = url, {"Authorization": f"Bearer {token}"}
        self._parts = [asked.parts() for asked in studies]
        self._concurrency = concurrency
        drawn, kinds = random.Random(seed), cycle(hostile)
        self._jobs = [
            next(kinds) if drawn.random() < hostile_share else drawn.randrange(len(studies)) for _ in range(requests)
        ]
        self._number = count()
        self._done = 0
        self._in_flight = 0
        self._open = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._call()), name="callers", daemon=True)

    @property
    def done(self) -> int:
        """How many requests have had their answer."""
        return self._done

    @property
    def running(self) -> bool:
        return self._thread.is_alive()

    def __enter__(self) -> Callers:
        self._open.set()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._thread.join(60)

    def finish(self) -> None:
        """Wait for the last answer."""
        self.reach(self.requests)

    def reach(self, done: int) -> None:
        """Wait until so many requests, which may begin, have had their answer."""
        self.allowed = max(self.allowed, done)
        deadline = time.monotonic() + _PATIENCE_S
        last = self._done
        while self._done < min(done, self.requests):
            if self._done > last:
                last, deadline = self._done, time.monotonic() + _PATIENCE_S
            if time.monotonic() > deadline or not self.running:
                raise TimeoutError(f"callers stopped at request {self._done} of {self.requests}")
            time.sleep(0.02)

    @contextmanager
    def silence(self) -> Iterator[None]:
        """Let no caller ask while the block lasts; it begins once every request under way has its answer."""
        self._open.clear()
        try:
            deadline = time.monotonic() + _PATIENCE_S
            while self._in_flight:
                if time.monotonic() > deadline:
                    raise TimeoutError(f"{self._in_flight} requests have no answer")
                time.sleep(0.02)
            yield
        finally:
            self._open.set()

    async def _call(self) -> None:
        # No connection is kept for as long as the server keeps it: it might be closed while a request is on its way.
        limits = httpx.Limits(
            max_connections=self._concurrency, max_keepalive_connections=self._concurrency, keepalive_expiry=2
        )
        async with httpx.AsyncClient(base_url=self._url, headers=self._headers, timeout=30, limits=limits) as client:
            await asyncio.gather(*(self._ask_on(client) for _ in range(self._concurrency)))

    async def _ask_on(self, client: httpx.AsyncClient) -> None:
        while (number := next(self._number)) < self.requests:
            while not self._stopping.is_set() and (not self._open.is_set() or number >= self.allowed):
                await asyncio.sleep(0.02)
            if self._stopping.is_set():
                return
            self._in_flight += 1
            try:
                await self._ask(client, number, self._jobs[number])
            except Exception as error:  # noqa: BLE001 - whatever it is, the verdict tells
                self.outcome.wrong.append(f"request {number}: {type(error).__name__}: {error}")
            finally:
                self._in_flight -= 1
                self._done += 1

    async def _ask(self, client: httpx.AsyncClient, number: int, job: int | Hostile) -> None:
        first = True
        while not self._stopping.is_set():
            begun, wait = time.monotonic(), 0.2
            try:
                answer = await self._send(client, number, job)
            except httpx.TransportError as error:
                outcome = type(error).__name__
            else:
                if answer.status_code not in RETRYABLE:
                    self._hear(job, answer, begun)
                    return
                outcome, wait = str(answer.status_code), float(answer.headers.get("retry-after", wait))
            self.outcome.attempts[outcome] += 1
            if first:
                self.outcome.retried.append(Retry(outcome, begun, time.monotonic()))
            first = False
            await asyncio.sleep(min(wait, 1.0))

    async def _send(self, client: httpx.AsyncClient, number: int, job: int | Hostile) -> httpx.Response:
        if isinstance(job, Hostile):
            return await job.send(client)
        headers = {"Idempotency-Key": f"soak-{number}"}
        return await client.post("/v1/diagnose", files=self._parts[job], headers=headers)

    def _hear(self, job: int | Hostile, answer: httpx.Response, begun: float) -> None:
        if isinstance(job, Hostile):
            self._hear_refusal(job, answer)
        elif answer.status_code != httpx.codes.OK:
            self.outcome.wrong.append(f"study {job}: {answer.status_code} {answer.text[:300]}")
        else:
            body = answer.json()
            self.outcome.answers.append(
                Answered(
                    job,
                    body["result_id"],
                    body["model"]["version"],
                    body["model"]["manifest_digest"],
                    body["input_digests"],
                    tuple(finding["probability"] for finding in body["findings"]),
                    begun,
                    time.monotonic(),
                )
            )

    def _hear_refusal(self, job: Hostile, answer: httpx.Response) -> None:
        if answer.status_code == job.status and answer.headers["content-type"] == "application/problem+json":
            self.outcome.refused[job.name] += 1
        else:
            self.outcome.wrong.append(
                f"{job.name}: got {answer.status_code}, must be {job.status}: {answer.text[:300]}"
            )
