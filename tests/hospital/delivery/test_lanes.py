"""Lanes: everything arrives, once where it can be told; nothing that fails keeps anything else waiting."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest

from consilium.databases.database import read_url
from hospital.delivery.backoff import Backoff
from hospital.delivery.destinations import NotSent, Refused, TryAgain, Unreachable
from hospital.delivery.lanes import Lane, Lanes
from hospital.store.gateway_store import Store, StoreLocation
from hospital.store.state import Delivery, DeliveryStage, QueuedDelivery
from tests.hospital.clock import SetClock
from tests.patience import PATIENCE_S, until_async

SEED = 7


class Destination:
    """Takes what it is sent, unless `refuses` says why not."""

    def __init__(self, refuses: Callable[[str], NotSent | Exception | None] = lambda _: None) -> None:
        self.refuses = refuses
        self.attempts: list[str] = []
        self.arrived: list[str] = []
        self.closed = False

    async def send(self, queued: QueuedDelivery) -> None:
        self.attempts.append(queued.delivery.key)
        if (error := self.refuses(queued.delivery.key)) is not None:
            raise error
        assert queued.delivery.content == f"content of {queued.delivery.key}".encode()
        self.arrived.append(queued.delivery.key)

    async def close(self) -> None:
        self.closed = True


class Hanging(Destination):
    async def send(self, queued: QueuedDelivery) -> None:
        await asyncio.Event().wait()


def location(folder: Path) -> StoreLocation:
    return StoreLocation(read_url(f"sqlite:///{folder / 'gateway.db'}", "url"), folder, folder / "key", 1)


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
def store(tmp_path: Path, clock: SetClock) -> Iterator[Store]:
    opened = Store(location(tmp_path), clock)
    yield opened
    opened.close()


def put(store: Store, *keys: str, destination: str = "pacs", after: tuple[str, ...] = ()) -> None:
    store.outbox.put(Delivery(key, destination, "sr", f"content of {key}".encode(), after=after) for key in keys)


def lane_to(destination: Destination, store: Store, clock: SetClock, name: str = "pacs") -> Lane:
    return Lane(name, destination, store.outbox, Backoff(generator=random.Random(SEED)), clock)


async def drained(lane: Lane) -> int:
    steps = 0
    while await lane.step():
        steps += 1
    return steps


def stages(store: Store) -> dict[str, DeliveryStage]:
    return {one.delivery.key: one.stage for one in store.outbox.listed()}


def test_what_was_put_in_arrives_in_order_and_once(store: Store, clock: SetClock) -> None:
    destination = Destination()
    put(store, "a", "b", "c")
    put(store, "b")

    asyncio.run(drained(lane_to(destination, store, clock)))

    assert destination.attempts == ["a", "b", "c"]
    assert set(stages(store).values()) == {DeliveryStage.SENT}


def test_what_is_refused_for_good_keeps_nothing_waiting_but_is_kept_for_a_person(store: Store, clock: SetClock) -> None:
    destination = Destination(lambda key: Refused("status 0xA900") if key == "b" else None)
    put(store, "a", "b", "c")
    lane = lane_to(destination, store, clock)

    asyncio.run(drained(lane))

    assert destination.attempts == ["a", "b", "c"]
    assert stages(store) == {"a": DeliveryStage.SENT, "b": DeliveryStage.DEAD, "c": DeliveryStage.SENT}
    assert lane.outcomes == {"sent": 2, "refused": 1}
    assert store.outbox.listed(stages=[DeliveryStage.DEAD])[0].problem == "status 0xA900"


def test_an_object_that_is_not_taken_now_lets_others_pass_and_comes_later(store: Store, clock: SetClock) -> None:
    destination = Destination(lambda key: TryAgain("busy") if key == "a" else None)
    put(store, "a", "b")
    lane = lane_to(destination, store, clock)
    asyncio.run(drained(lane))
    assert destination.arrived == ["b"]

    for _ in range(3):
        clock.move(hours=1)
        asyncio.run(drained(lane))
    destination.refuses = lambda _: None
    clock.move(hours=1)
    asyncio.run(drained(lane))

    assert destination.arrived == ["b", "a"]
    assert store.outbox.listed()[1].attempts == 5


def test_a_fault_of_ours_on_one_object_does_not_end_the_lane(store: Store, clock: SetClock) -> None:
    destination = Destination(lambda key: KeyError("MRN-4711") if key == "a" else None)
    put(store, "a", "b")

    asyncio.run(drained(lane_to(destination, store, clock)))

    assert destination.arrived == ["b"]
    assert store.outbox.listed()[1].problem == "KeyError"


def test_a_destination_that_is_down_for_an_hour_loses_nothing_and_is_not_hammered(
    store: Store, clock: SetClock
) -> None:
    destination = Destination(lambda _: Unreachable("connection refused"))
    lane = lane_to(destination, store, clock)
    put(store, "a", "b", "c")

    for _ in range(720):
        asyncio.run(drained(lane))
        clock.move(seconds=5)
    assert not lane.reachable
    # 5 s, doubled up to 15 min, each shortened by at most half: about ten attempts an hour, whatever waits.
    assert 8 <= len(destination.attempts) <= 16
    assert {one.attempts for one in store.outbox.listed()} == {0}
    assert {one.problem for one in store.outbox.listed()} == {"connection refused"}

    destination.refuses = lambda _: None
    clock.move(minutes=15)
    asyncio.run(drained(lane))
    assert destination.arrived == ["a", "b", "c"]
    assert lane.reachable


def test_a_destination_that_hangs_holds_up_its_own_lane_alone(store: Store, clock: SetClock) -> None:
    hanging, other = Hanging(), Destination()
    put(store, "a", "b", destination="hanging")
    put(store, "a", "b", "c", destination="other")

    async def watched() -> None:
        lanes = Lanes({"hanging": hanging, "other": other}, store.outbox, clock)
        running = asyncio.create_task(lanes.run())
        while store.outbox.counts().get(("other", DeliveryStage.SENT)) != 3:
            await asyncio.sleep(0.05)
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running

    asyncio.run(asyncio.wait_for(watched(), PATIENCE_S))

    assert other.arrived == ["a", "b", "c"]
    assert hanging.closed
    assert other.closed
    assert store.outbox.counts() == {("hanging", DeliveryStage.WAITING): 2, ("other", DeliveryStage.SENT): 3}


def test_without_a_destination_the_outbox_waits(store: Store, clock: SetClock) -> None:
    async def watched() -> None:
        await asyncio.wait_for(Lanes({}, store.outbox, clock).run(), 0.2)

    with pytest.raises(TimeoutError):
        asyncio.run(watched())


def test_what_comes_in_while_lanes_run_is_sent(store: Store, clock: SetClock) -> None:
    destination = Destination()

    async def watched() -> None:
        running = asyncio.create_task(Lanes({"pacs": destination}, store.outbox, clock).run())
        await asyncio.sleep(0)
        await asyncio.to_thread(put, store, "later")
        while not destination.arrived:
            await asyncio.sleep(0.01)
        running.cancel()

    asyncio.run(asyncio.wait_for(watched(), PATIENCE_S))

    assert destination.arrived == ["later"]


def test_a_process_that_ends_before_it_can_note_an_arrival_sends_the_same_bytes_again(
    store: Store, clock: SetClock, tmp_path: Path
) -> None:
    put(store, "a")
    first = store.outbox.next("pacs")
    assert first is not None  # sent, and killed before `sent`
    store.close()

    again = Store(location(tmp_path), clock)
    destination = Destination()
    asyncio.run(drained(lane_to(destination, again, clock)))

    assert destination.arrived == ["a"]
    assert again.outbox.counts() == {("pacs", DeliveryStage.SENT): 1}
    again.close()


def test_a_correction_is_sent_after_what_it_corrects(store: Store, clock: SetClock) -> None:
    destination = Destination(lambda key: TryAgain("busy") if key == "first" else None)
    put(store, "first")
    put(store, "corrected", after=("first",))
    lane = lane_to(destination, store, clock)
    asyncio.run(drained(lane))
    assert destination.arrived == []

    destination.refuses = lambda _: None
    clock.move(hours=1)
    asyncio.run(drained(lane))
    assert destination.arrived == ["first", "corrected"]


@pytest.mark.parametrize("failure", [Unreachable("no answer"), TryAgain("busy")])
def test_what_is_not_taken_for_too_long_becomes_a_dead_letter_and_retry_gives_it_as_long_again(
    store: Store, clock: SetClock, failure: NotSent
) -> None:
    destination = Destination(lambda _: failure)
    put(store, "a")
    lane = Lane("pacs", destination, store.outbox, Backoff(), clock, give_up=timedelta(days=2))
    asyncio.run(drained(lane))
    clock.move(days=1)
    asyncio.run(drained(lane))
    assert stages(store) == {"a": DeliveryStage.WAITING}
    assert store.outbox.oldest() == {"pacs": clock() - timedelta(days=1)}

    clock.move(days=1, hours=1)
    put(store, "b")
    asyncio.run(drained(lane))
    assert stages(store) == {"a": DeliveryStage.DEAD, "b": DeliveryStage.WAITING}
    (dead,) = store.outbox.listed(stages=[DeliveryStage.DEAD])
    assert (dead.problem, dead.unaddressed) == (str(failure), False)

    destination.refuses = lambda _: TryAgain("busy")
    store.outbox.retry(dead.number)
    clock.move(days=1)
    asyncio.run(drained(lane))
    destination.refuses = lambda _: None
    clock.move(hours=1)
    asyncio.run(drained(lane))
    assert stages(store) == {"a": DeliveryStage.SENT, "b": DeliveryStage.SENT}
    assert store.outbox.oldest() == {}


def test_what_waited_while_the_gateway_stood_still_is_tried_before_it_is_given_up(
    store: Store, clock: SetClock
) -> None:
    put(store, "a", "b")
    clock.move(days=30)
    destination = Destination()

    asyncio.run(drained(lane_to(destination, store, clock)))

    assert destination.arrived == ["a", "b"]


def test_pauses_double_up_to_a_limit_and_are_shortened_by_at_most_half() -> None:
    backoff = Backoff(timedelta(seconds=4), timedelta(seconds=60), random.Random(SEED))

    for failures, whole in [(1, 4), (2, 8), (3, 16), (4, 32), (5, 60), (500, 60)]:
        drawn = [backoff.pause(failures).total_seconds() for _ in range(50)]
        assert whole / 2 <= min(drawn) < max(drawn) <= whole
    repeated = [Backoff(generator=random.Random(SEED)).pause(3) for _ in range(2)]
    assert repeated[0] == repeated[1]


def test_what_is_superseded_once_it_was_read_is_not_sent(store: Store, clock: SetClock) -> None:
    destination = Destination()
    put(store, "a", "b")
    read = store.outbox.next

    def read_too_early(name: str) -> QueuedDelivery | None:
        queued = read(name)
        if queued is not None and queued.delivery.key == "a":
            store.outbox.drop(queued.number)
        return queued

    store.outbox.next = read_too_early  # type: ignore[method-assign]
    asyncio.run(drained(lane_to(destination, store, clock)))

    assert destination.attempts == ["b"]
    assert stages(store) == {"a": DeliveryStage.DROPPED, "b": DeliveryStage.SENT}


def test_what_a_process_was_sending_as_it_died_may_have_arrived(store: Store, clock: SetClock) -> None:
    put(store, "a", "b")
    lane = Lane("pacs", Hanging(), store.outbox, Backoff(generator=random.Random(SEED)), clock)

    async def died() -> None:
        step = asyncio.create_task(lane.step())
        await until_async(lambda: any(one.may_have_arrived for one in store.outbox.listed()))
        step.cancel()
        await asyncio.gather(step, return_exceptions=True)

    asyncio.run(died())

    assert {one.delivery.key: one.may_have_arrived for one in store.outbox.listed()} == {"a": True, "b": False}
    assert store.outbox.waiting("pacs") == 2
