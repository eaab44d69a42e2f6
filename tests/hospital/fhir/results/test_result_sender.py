import asyncio
import json
from datetime import UTC, datetime

import httpx
import pytest

from hospital.delivery.destinations import Refused, TryAgain, Unreachable
from hospital.fhir.results.result_sender import MEDIA_TYPE, TransactionSender
from hospital.store.state import Delivery, DeliveryStage, QueuedDelivery

NOW = datetime(2024, 5, 1, tzinfo=UTC)
QUEUED = QueuedDelivery(
    1, Delivery("k", "ehr", "bundle", b'{"resourceType":"Bundle"}'), DeliveryStage.WAITING, 0, NOW, NOW
)


def send(answer, authorise=None) -> list[httpx.Request]:
    seen: list[httpx.Request] = []

    def handle(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def run() -> None:
        client = httpx.AsyncClient(base_url="http://ehr.test/fhir", transport=httpx.MockTransport(handle))
        sender = TransactionSender(client, authorise)
        try:
            await sender.send(QUEUED)
        finally:
            await sender.close()

    asyncio.run(run())
    return seen


def entries(*states: str) -> httpx.Response:
    return httpx.Response(200, json={"entry": [{"response": {"status": state}} for state in states]})


def test_transaction_is_posted_to_the_base_of_the_server_byte_for_byte():
    async def authorise():
        return {"Authorization": "Bearer t"}

    (request,) = send(entries("201 Created", "200"), authorise)
    assert (request.method, str(request.url)) == ("POST", "http://ehr.test/fhir")
    assert request.content == QUEUED.delivery.content
    assert (request.headers["content-type"], request.headers["authorization"]) == (MEDIA_TYPE, "Bearer t")


@pytest.mark.parametrize("status", [500, 502, 503, 401, 403, 302])
def test_server_that_lets_nothing_in_makes_the_lane_wait(status):
    with pytest.raises(Unreachable, match=f"HTTP {status}"):
        send(httpx.Response(status))


def test_server_that_does_not_answer_makes_the_lane_wait():
    with pytest.raises(Unreachable, match="ConnectError"):
        send(httpx.ConnectError("http://ehr.test of MRN-0042"))


@pytest.mark.parametrize("status", [409, 429])
def test_server_that_asks_to_wait_gets_it_again(status):
    with pytest.raises(TryAgain, match=f"HTTP {status}"):
        send(httpx.Response(status))


def test_refused_transaction_names_codes_and_no_text_of_the_server():
    outcome = {"issue": [{"code": "multiple-matches", "diagnostics": "Patient MRN-0042"}, {"code": "MRN 0042"}]}
    with pytest.raises(Refused) as caught:
        send(httpx.Response(412, json=outcome))
    assert str(caught.value.args[0]) == "HTTP 412 (multiple-matches)"


def test_transaction_that_was_done_in_part_is_refused():
    with pytest.raises(Refused, match="1 of 2 entries were not done"):
        send(entries("201", "400 Bad Request"))


@pytest.mark.parametrize(
    "body", [b"", b"<html>", json.dumps([1]).encode(), b'{"entry": [1, {"response": 3}]}', b"[" * 100_000]
)
def test_success_without_a_readable_body_is_success(body):
    send(httpx.Response(200, content=body))
