from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from service.batching import Batcher, BatchLimits, Closed, QueueFull
from tests.patience import PATIENCE_S

Run = Callable[[Sequence[int]], Sequence[int]]


class Poisoned(Exception):
    pass


class Panic(BaseException):
    """As a Rust library raises it."""


def exercise(run: Run, limits: BatchLimits, scenario: Callable[[Batcher[int, int]], Awaitable[None]]) -> None:
    async def go() -> None:
        with ThreadPoolExecutor(1) as executor:
            batcher: Batcher[int, int] = Batcher(run, executor, limits)
            batcher.start()
            await scenario(batcher)
            await batcher.drain()

    asyncio.run(asyncio.wait_for(go(), PATIENCE_S))


async def ask(batcher: Batcher[int, int], item: int) -> int:
    with batcher.place() as place:
        return await place.submit(item)


def test_each_caller_gets_its_own_answer_from_full_batches_on_one_thread() -> None:
    sizes: list[int] = []
    threads: set[int] = set()

    def run(items: Sequence[int]) -> Sequence[int]:
        sizes.append(len(items))
        threads.add(threading.get_ident())
        time.sleep(0.01)
        return [10 * item for item in items]

    async def scenario(batcher: Batcher[int, int]) -> None:
        assert await asyncio.gather(*[ask(batcher, item) for item in range(10)]) == [10 * item for item in range(10)]

    exercise(run, BatchLimits(size=4, wait_s=0.05, places=100), scenario)
    assert sizes == [4, 4, 2]
    assert threads != {threading.get_ident()}
    assert len(threads) == 1


def test_a_lone_request_does_not_wait_for_company() -> None:
    async def scenario(batcher: Batcher[int, int]) -> None:
        assert await ask(batcher, 1) == 1

    exercise(list, BatchLimits(size=8, wait_s=10 * PATIENCE_S, places=100), scenario)


def test_a_batch_waits_for_a_request_that_is_admitted() -> None:
    batches: list[list[int]] = []

    def run(items: Sequence[int]) -> Sequence[int]:
        batches.append(list(items))
        return items

    async def scenario(batcher: Batcher[int, int]) -> None:
        with batcher.place() as late:
            first = asyncio.create_task(ask(batcher, 1))
            await asyncio.sleep(0.05)
            assert batches == []
            await asyncio.gather(first, late.submit(2))

    exercise(run, BatchLimits(size=8, wait_s=10 * PATIENCE_S, places=100), scenario)
    assert batches == [[1, 2]]


def test_a_batch_waits_no_longer_than_it_may() -> None:
    async def scenario(batcher: Batcher[int, int]) -> None:
        with batcher.place():
            assert await ask(batcher, 3) == 3

    exercise(list, BatchLimits(size=8, wait_s=0.05, places=100), scenario)


@pytest.mark.parametrize("error", [Poisoned, Panic])
def test_one_poisoned_item_fails_alone(error: type[BaseException]) -> None:
    def run(items: Sequence[int]) -> Sequence[int]:
        if 3 in items:
            raise error
        return items

    async def scenario(batcher: Batcher[int, int]) -> None:
        answers = await asyncio.gather(*[ask(batcher, item) for item in range(6)], return_exceptions=True)
        assert [type(answer) for answer in answers] == [int, int, int, error, int, int]
        assert await ask(batcher, 7) == 7

    exercise(run, BatchLimits(size=8, wait_s=0.05, places=100), scenario)


def test_an_answer_too_few_fails_rather_than_going_to_the_wrong_caller() -> None:
    async def scenario(batcher: Batcher[int, int]) -> None:
        answers = await asyncio.gather(*[ask(batcher, item) for item in range(3)], return_exceptions=True)
        assert all(isinstance(answer, RuntimeError) for answer in answers)

    exercise(lambda items: list(items)[:-1], BatchLimits(size=8, wait_s=0.05, places=100), scenario)


def test_a_cancelled_request_is_dropped_from_the_queue() -> None:
    seen: list[int] = []
    running, go_on = threading.Event(), threading.Event()

    def run(items: Sequence[int]) -> Sequence[int]:
        seen.extend(items)
        running.set()
        go_on.wait(PATIENCE_S)
        return items

    async def scenario(batcher: Batcher[int, int]) -> None:
        first = asyncio.create_task(ask(batcher, 1))
        await asyncio.to_thread(running.wait, PATIENCE_S)
        given_up, kept = asyncio.create_task(ask(batcher, 2)), asyncio.create_task(ask(batcher, 3))
        await asyncio.sleep(0.01)
        given_up.cancel()
        with suppress(asyncio.CancelledError):
            await given_up
        go_on.set()
        assert await asyncio.gather(first, kept) == [1, 3]

    exercise(run, BatchLimits(size=1, wait_s=0, places=100), scenario)
    assert seen == [1, 3]


def test_no_more_are_admitted_than_places_and_a_place_comes_back() -> None:
    async def scenario(batcher: Batcher[int, int]) -> None:
        with batcher.place(), batcher.place(), pytest.raises(QueueFull):
            batcher.place()
        with pytest.raises(Poisoned), batcher.place():
            raise Poisoned
        with batcher.place(), batcher.place():
            pass

    exercise(list, BatchLimits(size=1, wait_s=0, places=2), scenario)


def test_drain_answers_what_was_admitted_and_admits_no_more() -> None:
    async def scenario(batcher: Batcher[int, int]) -> None:
        with batcher.place() as place:
            draining = asyncio.create_task(batcher.drain())
            await asyncio.sleep(0.01)
            with pytest.raises(Closed):
                batcher.place()
            assert await place.submit(5) == 5
        await draining

    exercise(list, BatchLimits(size=4, wait_s=0.05, places=10), scenario)


def test_drain_waits_until_every_answer_is_on_its_way() -> None:
    async def scenario(batcher: Batcher[int, int]) -> None:
        with batcher.place() as place:
            assert await place.submit(5) == 5
            draining = asyncio.create_task(batcher.drain())
            await asyncio.sleep(0.01)
            assert not draining.done(), "its caller has yet to record it"
        await draining

    exercise(list, BatchLimits(size=4, wait_s=0.05, places=10), scenario)


def test_no_batch_waits_for_who_is_not_awaited() -> None:
    async def scenario(batcher: Batcher[int, int]) -> None:
        with await batcher.free_place(awaited=False) as patient:
            assert await ask(batcher, 2) == 2, "though it has brought nothing yet, and a batch may wait for long"
            assert await patient.submit(1) == 1

    exercise(list, BatchLimits(size=4, wait_s=60, places=2), scenario)
