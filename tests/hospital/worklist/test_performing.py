"""Work items are claimed, done and ended as PS3.18 and PS3.4 want it, whatever dies or is asked for amid them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from hospital.worklist.cancel_requests import CancelRequests
from hospital.worklist.performed_steps import NOT_SUPPORTED
from hospital.worklist.performer import ASKED, FETCHED, ON_REQUEST, OTHER_PATIENT, Standing
from hospital.worklist.worklist_server import WorklistAway
from tests.hospital.worklist.performing import SR, Site
from tests.hospital.worklist.ups_server import UpsServer, code, element, serving, value, work_item
from tests.patience import PATIENCE_S

pytestmark = pytest.mark.anyio
ITEM, STUDY = "1.2.3", "1.2.840.1"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def worklist() -> UpsServer:
    server = UpsServer()
    server.add(work_item(ITEM, STUDY, patient="4711"))
    return server


@pytest.fixture
def site(tmp_path: Path, worklist: UpsServer) -> Iterator[Site]:
    made = Site(tmp_path, worklist)
    yield made
    made.store.close()


def reason(worklist: UpsServer) -> tuple[Any, Any]:
    """Code and words of why the work item was cancelled."""
    told = value(worklist.items[ITEM], "00741002")
    return value(value(told, "0074100E"), "00080100"), value(told, "00741238")


async def test_a_work_item_is_claimed_done_and_completed_with_what_was_made(site: Site, worklist: UpsServer) -> None:
    await site.turns(2)
    assert (worklist.state(ITEM), site.stages()) == ("IN PROGRESS", {ITEM: "performing"})
    assert (site.studies.fetched, site.studies.begun) == ({STUDY: 1}, {STUDY: 1})
    assert worklist.subscribed == {(ITEM, "CONSILIUM")}

    site.studies.answer(STUDY)
    await site.turns()
    assert worklist.state(ITEM) == "IN PROGRESS"
    site.studies.deliver(STUDY)
    await site.turns()

    assert (worklist.state(ITEM), site.stages()) == ("COMPLETED", {ITEM: "completed"})
    assert worklist.told[ITEM] == ["25", "80", "100"]
    assert worklist.outputs(ITEM) == [(SR, f"{STUDY}.9.1")]
    performed = worklist.performed(ITEM)
    assert value(value(performed, "00404028"), "00080100") == "CONSILIUM"
    assert value(value(performed, "00404019"), "00080100") == "CHEST-AI"
    assert value(performed, "00404050") == "20260302080000+0000"
    output = value(performed, "00404033")
    assert (value(output, "0020000D"), value(output, "0020000E")) == (STUDY, f"{STUDY}.9")
    assert value(value(output, "0040E021"), "00080054") == "PACS"
    assert worklist.refused == []
    await site.turns(2)
    assert worklist.claims == [ITEM]


@pytest.mark.parametrize(
    "changes",
    [
        {"00404018": element("SQ", code("MR-AI"))},
        {"00404018": element("SQ", code("CHEST-AI", "99OTHER"))},
        {"00404041": element("CS", "INCOMPLETE")},
        {"00404025": element("SQ", code("ANOTHER"))},
        {"00404005": element("DT", "20260302235900+0000")},
        {"00404021": element("SQ")},
        {"00741000": element("CS", "COMPLETED")},
    ],
)
async def test_what_is_not_for_us_or_not_ready_is_left_alone(
    site: Site, worklist: UpsServer, changes: dict[str, Any]
) -> None:
    worklist.add(work_item(ITEM, STUDY) | changes)

    await site.turns()

    assert (worklist.claims, site.stages()) == ([], {})


async def test_no_more_are_claimed_than_may_be_under_way_and_urgent_ones_first(tmp_path: Path) -> None:
    worklist = UpsServer()
    for number, priority in enumerate(("LOW", "MEDIUM", "HIGH", "HIGH")):
        worklist.add(work_item(f"1.2.{number + 1}", STUDY) | {"00741200": element("CS", priority)})
    site = Site(tmp_path, worklist, at_once=2)

    await site.turns(2)
    assert worklist.claims == ["1.2.3", "1.2.4"]
    site.studies.deliver(STUDY)
    await site.turns(2)

    assert worklist.claims == ["1.2.3", "1.2.4", "1.2.2", "1.2.1"]
    site.store.close()


async def test_of_two_performers_one_alone_does_a_work_item(tmp_path: Path) -> None:
    worklist = UpsServer()
    items = [worklist.add(work_item(f"1.2.{number}", f"1.2.840.{number}")) for number in range(1, 7)]
    sites = [Site(tmp_path / name, worklist, at_once=6) for name in ("north", "south")]

    for _ in range(3):
        await asyncio.gather(*(site.turns() for site in sites))

    assert sorted(worklist.claims) == items
    begun = sites[0].studies.begun + sites[1].studies.begun
    assert begun == {f"1.2.840.{number}": 1 for number in range(1, 7)}
    assert {stage for site in sites for stage in site.stages().values()} <= {"performing", "lost"}
    for site in sites:
        site.store.close()


class Died(BaseException):
    """The process ends here."""


class DyingTransport(httpx.AsyncBaseTransport):
    """Dies at the n-th request, before the worklist sees it or after it answered."""

    def __init__(self, worklist: UpsServer, at: int, *, answered: bool) -> None:
        self._inner = httpx.ASGITransport(worklist.application())
        self.left, self._answered = at, answered

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.left -= 1
        if self.left == 0 and not self._answered:
            raise Died
        answer = await self._inner.handle_async_request(request)
        if self.left == 0:
            raise Died
        return answer


@pytest.mark.parametrize("answered", [False, True])
@pytest.mark.parametrize("cancel", [False, True])
async def test_wherever_it_dies_the_next_process_goes_on_with_its_claim(
    tmp_path: Path, *, answered: bool, cancel: bool
) -> None:
    worklist = UpsServer()
    site, deaths, items = Site(tmp_path, worklist), 0, []
    for at in range(1, 40):
        item = worklist.add(work_item(f"1.2.{at}", f"1.2.840.{at}", patient="4711"))
        items.append(item)
        transport = DyingTransport(worklist, at, answered=answered)
        site.start(transport)
        try:
            await done(site, item, cancel=cancel)
        except Died:
            deaths += 1
        site.start()
        await done(site, item, cancel=cancel)

        assert worklist.state(item) == ("CANCELED" if cancel else "COMPLETED")
        assert site.stages()[item] == ("canceled" if cancel else "completed")
        if transport.left > 0:
            break
    site.store.close()
    assert worklist.claims == items
    assert deaths == len(items) - 1 >= 9


async def done(site: Site, item: str, *, cancel: bool) -> None:
    """Until the work item is ended."""
    for turn in range(6):
        if site.stages().get(item) in ("completed", "canceled"):
            return
        if turn == 2 and cancel:
            await site.performing.request_cancellation(item)
        elif turn == 2:
            site.studies.deliver(f"1.2.840.{item.rpartition('.')[2]}")
        await site.turns()


def cancel_requests(site: Site, http: httpx.AsyncClient) -> CancelRequests:
    performing = site.performing
    return CancelRequests("orders", http, "CONSILIUM", performing.request_cancellation, performing.channel_opened)


async def test_a_cancel_request_is_heard_over_the_worklists_event_channel(tmp_path: Path, worklist: UpsServer) -> None:
    with serving(worklist):
        site = Site(tmp_path, worklist, transport=httpx.AsyncHTTPTransport())
        async with worklist.client(httpx.AsyncHTTPTransport()) as http:
            listening = asyncio.create_task(cancel_requests(site, http).run())
            await site.turns(2)
            async with asyncio.timeout(60):
                while "CONSILIUM" not in worklist.channels:
                    await asyncio.sleep(0.02)
                assert (await http.post(f"/workitems/{ITEM}/cancelrequest")).status_code == 202
                while not site.store.claims.open("orders")[0].cancel:
                    await asyncio.sleep(0.02)
            await site.turns()
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)
        site.store.close()

    assert worklist.state(ITEM) == "CANCELED"
    assert reason(worklist) == ("110513", ON_REQUEST)
    assert site.studies.withdrawn == [STUDY]


async def test_a_request_that_came_while_the_channel_was_broken_is_found_in_the_work_item(
    tmp_path: Path, worklist: UpsServer
) -> None:
    worklist.notes_requests = True
    with serving(worklist):
        site = Site(tmp_path, worklist, transport=httpx.AsyncHTTPTransport())
        async with worklist.client(httpx.AsyncHTTPTransport()) as http:
            await site.turns(2)
            worklist.subscribed.clear()
            assert (await http.post(f"/workitems/{ITEM}/cancelrequest")).status_code == 202
            await site.turns()
            assert worklist.state(ITEM) == "IN PROGRESS", "nobody was there to hear it"

            listening = asyncio.create_task(cancel_requests(site, http).run())
            async with asyncio.timeout(PATIENCE_S):
                while not site.store.claims.open("orders")[0].unheard:
                    await asyncio.sleep(0.02)
            await site.turns()
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)
        site.store.close()

    assert (worklist.state(ITEM), reason(worklist)) == ("CANCELED", ("110513", ON_REQUEST))
    assert site.studies.withdrawn == [STUDY]


async def test_whoever_opens_the_channel_subscribes_again_and_goes_on(site: Site, worklist: UpsServer) -> None:
    await site.turns(2)
    worklist.subscribed.clear()

    await site.performing.channel_opened()
    await site.turns()

    assert worklist.subscribed == {(ITEM, "CONSILIUM")}
    (claim,) = site.store.claims.open("orders")
    assert (claim.unheard, claim.cancel, worklist.state(ITEM)) == (False, False, "IN PROGRESS")


async def test_a_worklist_that_is_away_as_the_channel_opens_is_asked_later(tmp_path: Path, worklist: UpsServer) -> None:
    worklist.notes_requests = True
    site = Site(tmp_path, worklist)
    await site.turns(2)
    async with worklist.client() as http:
        await http.post(f"/workitems/{ITEM}/cancelrequest")
    await site.performing.channel_opened()
    away = httpx.MockTransport(lambda _: httpx.Response(503))
    site.start(away)
    with pytest.raises(WorklistAway):
        await site.turns()
    assert site.store.claims.open("orders")[0].unheard
    site.clock.move(minutes=6)
    site.start()

    await site.turns()

    assert worklist.state(ITEM) == "CANCELED"
    site.store.close()


async def test_a_request_that_the_work_item_notes_is_seen_before_progress_is_told(
    site: Site, worklist: UpsServer
) -> None:
    worklist.notes_requests = True
    await site.turns(2)
    async with worklist.client() as http:
        await http.post(f"/workitems/{ITEM}/cancelrequest")
    site.studies.standings[STUDY] = Standing(ASKED, "the model is asked")

    await site.turns()

    assert (worklist.state(ITEM), worklist.told[ITEM]) == ("CANCELED", ["25"])


async def test_a_worklist_that_was_started_anew_says_so(site: Site, worklist: UpsServer) -> None:
    opened: list[str] = []

    async def note() -> None:
        opened.append("again")

    requests = CancelRequests("orders", worklist.client(), "CONSILIUM", site.performing.request_cancellation, note)
    await requests._take(json.dumps({"00001002": element("US", 4), "00741242": element("CS", "RESTARTED")}))
    await requests._take(json.dumps({"00001002": element("US", 3)}))
    assert opened == ["again"]


async def test_what_is_answered_is_delivered_though_its_cancellation_was_asked_for(
    site: Site, worklist: UpsServer
) -> None:
    await site.turns(2)
    site.studies.answer(STUDY)
    await site.performing.request_cancellation(ITEM)
    await site.turns()
    assert (worklist.state(ITEM), site.studies.withdrawn) == ("IN PROGRESS", [])

    site.studies.deliver(STUDY)
    await site.turns()

    assert worklist.state(ITEM) == "COMPLETED"


async def test_a_study_that_another_work_item_wants_is_not_withdrawn(site: Site, worklist: UpsServer) -> None:
    worklist.add(work_item("1.2.4", STUDY))
    await site.turns(2)

    await site.performing.request_cancellation(ITEM)
    await site.turns()

    assert site.stages() == {ITEM: "canceled", "1.2.4": "performing"}
    assert site.studies.withdrawn == []


async def test_input_of_another_patient_is_never_worked_on(site: Site, worklist: UpsServer) -> None:
    site.studies.patients = frozenset({"4712"})

    await site.turns(2)

    assert (worklist.state(ITEM), reason(worklist)) == ("CANCELED", ("110514", OTHER_PATIENT))
    assert site.studies.begun == {}


async def test_input_that_cannot_be_had_is_tried_for_a_while(site: Site, worklist: UpsServer) -> None:
    site.studies.away = True
    await site.turns(5)
    assert worklist.state(ITEM) == "IN PROGRESS"
    (claim,) = site.store.claims.open("orders")
    assert claim.problem == "archive: no answer"

    await site.turns(8)

    assert (worklist.state(ITEM), reason(worklist)) == ("CANCELED", ("110523", "archive: no answer"))


async def test_a_study_that_cannot_be_answered_ends_the_work_item_with_the_reason(
    site: Site, worklist: UpsServer
) -> None:
    await site.turns(2)
    site.studies.standings[STUDY] = Standing(FETCHED, "no route takes it", given_up=NOT_SUPPORTED)

    await site.turns()

    assert (worklist.state(ITEM), reason(worklist)) == ("CANCELED", ("110522", "no route takes it"))
    assert worklist.outputs(ITEM) == []


async def test_a_work_item_that_the_worklist_ended_or_gave_away_is_let_go(site: Site, worklist: UpsServer) -> None:
    other, gone = worklist.add(work_item("1.2.4", "1.2.840.2")), worklist.add(work_item("1.2.5", "1.2.840.3"))
    await site.turns(2)
    worklist.items[ITEM]["00741000"] = element("CS", "CANCELED")
    worklist.owners[other] = "2.25.1"
    del worklist.items[gone]
    for study in (STUDY, "1.2.840.2", "1.2.840.3"):
        site.studies.answer(study)

    await site.turns()

    assert site.stages() == {ITEM: "canceled", other: "lost", gone: "lost"}
    assert sorted(set(site.studies.withdrawn)) == [STUDY, "1.2.840.2", "1.2.840.3"]


async def test_a_worklist_that_is_away_is_asked_again(tmp_path: Path, worklist: UpsServer) -> None:
    answers = [httpx.Response(503), httpx.Response(200, content=b"<html>")]
    inner = httpx.ASGITransport(worklist.application())

    async def answer(request: httpx.Request) -> httpx.Response:
        if request.method == "PUT" and answers:
            return answers.pop()
        return await inner.handle_async_request(request)

    class Transport(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            return await answer(request)

    site = Site(tmp_path, worklist, transport=Transport())
    await site.turns(8)

    assert (worklist.claims, site.stages()) == ([ITEM], {ITEM: "performing"})
    site.store.close()
