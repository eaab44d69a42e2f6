"""Requests are gathered into batches, and a batch runs on the model's own thread.

`Batcher.place()` admits a request before its body is read, so that the number of bodies in memory is bounded;
`Place.submit` queues what the request became. One task gathers what is queued and runs it on the executor, never two
batches at once. `bentoml.depends` with ``batchable=True`` is not used: it loses requests under load.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from types import TracebackType
from typing import Generic, TypeVar

Item = TypeVar("Item")
Answer = TypeVar("Answer")


class QueueFull(Exception):
    """Too many requests are admitted."""


class Closed(Exception):
    """The batcher takes no more requests."""


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """`size`: most items in a batch; `wait_s`: how long it waits for admitted ones; `places`: how many are admitted."""

    size: int
    wait_s: float
    places: int


class Batcher(Generic[Item, Answer]):
    """Gathers items, runs `run` on `executor`, and gives each caller its own answer.

    `run` takes a list of items and gives as many answers in the same order. Where it raises, each item of the batch
    runs again alone, so that only the one at fault fails.
    """

    def __init__(
        self, run: Callable[[Sequence[Item]], Sequence[Answer]], executor: Executor, limits: BatchLimits
    ) -> None:
        self._run = run
        self._executor = executor
        self._limits = limits
        self._queued: deque[tuple[Item, asyncio.Future[Answer]]] = deque()
        self._arrival = asyncio.Event()
        self._admitted = 0
        self._undecided = 0
        self._closing = False
        self._left = asyncio.Event()
        self._gathering: asyncio.Task[None] | None = None

    @property
    def admitted(self) -> int:
        """How many requests hold a place."""
        return self._admitted

    @property
    def waiting(self) -> int:
        """How many items wait for a batch."""
        return len(self._queued)

    def start(self) -> None:
        """Begin to run batches. Call within the event loop."""
        self._gathering = asyncio.create_task(self._gather_forever())

    async def drain(self) -> None:
        """Admit no more requests, answer those that were, then stop; done when every place was given back."""
        self._closing = True
        self._arrival.set()
        self._left.set()
        if self._gathering is not None:
            await self._gathering
        while self._admitted:
            self._left.clear()
            await self._left.wait()

    def place(self, *, awaited: bool = True) -> Place[Item, Answer]:
        """Admit one request.

        Parameters
        ----------
        awaited : bool
            Whether a batch waits for its item while that is being decoded.

        Raises
        ------
        QueueFull, Closed
        """
        if self._closing:
            raise Closed
        if self._admitted >= self._limits.places:
            raise QueueFull
        return Place(self, awaited=awaited)

    async def free_place(self, *, awaited: bool = True) -> Place[Item, Answer]:
        """Admit one request as soon as there is room. Who waits here has no claim before those who do not wait.

        Raises
        ------
        Closed
        """
        while self._admitted >= self._limits.places and not self._closing:
            self._left.clear()
            await self._left.wait()
        return self.place(awaited=awaited)

    async def _gather_forever(self) -> None:
        while True:
            await self._arrival.wait()
            self._arrival.clear()
            while batch := await self._gather():
                await self._answer(batch)
            if self._closing and not self._undecided:
                return

    async def _gather(self) -> list[tuple[Item, asyncio.Future[Answer]]]:
        """Up to `size` items; waits up to `wait_s` only while requests that were admitted may still bring theirs."""
        self._drop_cancelled()
        deadline = asyncio.get_running_loop().time() + self._limits.wait_s
        while self._queued and len(self._queued) < self._limits.size and self._undecided and not self._closing:
            self._arrival.clear()
            try:
                async with asyncio.timeout_at(deadline):
                    await self._arrival.wait()
            except TimeoutError:
                break
        self._drop_cancelled()
        return [self._queued.popleft() for _ in range(min(self._limits.size, len(self._queued)))]

    def _drop_cancelled(self) -> None:
        self._queued = deque(entry for entry in self._queued if not entry[1].done())

    async def _answer(self, batch: list[tuple[Item, asyncio.Future[Answer]]]) -> None:
        try:
            answers = await self._execute([item for item, _ in batch])
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # noqa: BLE001 - a compiled library's panic is no Exception; gathering goes on
            if len(batch) == 1:
                _fail(batch[0][1], error)
                return
            for entry in batch:
                if not entry[1].done():
                    await self._answer([entry])
            return
        for (_, future), answer in zip(batch, answers, strict=True):
            if not future.done():
                future.set_result(answer)

    def _execute(self, items: list[Item]) -> Awaitable[Sequence[Answer]]:
        return asyncio.get_running_loop().run_in_executor(self._executor, self._checked_run, items)

    def _checked_run(self, items: list[Item]) -> Sequence[Answer]:
        answers = self._run(items)
        if len(answers) != len(items):
            raise RuntimeError(f"{len(answers)} answers for {len(items)} items")
        return answers


class Place(Generic[Item, Answer]):
    """One admitted request: a context that gives its place back."""

    def __init__(self, batcher: Batcher[Item, Answer], *, awaited: bool) -> None:
        self._batcher = batcher
        self._decided = not awaited

    def __enter__(self) -> Place[Item, Answer]:
        self._batcher._admitted += 1
        self._batcher._undecided += not self._decided
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._batcher._admitted -= 1
        self._batcher._left.set()
        self._decide()

    async def submit(self, item: Item) -> Answer:
        """The answer to `item`. Cancelling the caller takes the item out of the queue."""
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._batcher._queued.append((item, future))
        self._decide()
        return await future

    def _decide(self) -> None:
        """Batches need not wait for this request any more: it brought its item, or will not."""
        if not self._decided:
            self._decided = True
            self._batcher._undecided -= 1
        self._batcher._arrival.set()


def _fail(future: asyncio.Future[Answer], error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)
