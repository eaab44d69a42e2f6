"""Decoders that are killed from outside, and a service that is told to stop, while images are on their way."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from pathlib import Path

import httpx
import psutil
import pytest

from service.app.launch import RunningService
from tests.integration.test_service_http import RECORDS, form, png
from tests.patience import PATIENCE_S

FILES = [png(seed, 1200) for seed in range(4)]
ROUNDS = 3


@pytest.fixture(scope="module")
def running(home: Path, tiny_folder: Path) -> Iterator[RunningService]:
    with RunningService(tiny_folder, {"model_threads": 1, "decode_workers": 2}) as started:
        yield started


def decoders(running: RunningService) -> list[psutil.Process]:
    """The processes below the one that answers, but for Python's own (the resource tracker)."""
    found = []
    for process in psutil.Process(running.pid).children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            if any("spawn_main" in argument for argument in process.cmdline()):
                found.append(process)
    return found


def probabilities(answer: httpx.Response) -> list[float]:
    assert answer.status_code == 200, answer.text
    return [finding["probability"] for finding in answer.json()["findings"]]


def admitted(running: RunningService) -> int:
    metrics = httpx.get(f"{running.url}/metrics", timeout=PATIENCE_S).text
    found = re.search(r'consilium_admitted_requests\{queue="diagnose"\} (\d+)', metrics)
    return 0 if found is None else int(found[1])


def test_no_study_is_refused_because_its_decoder_was_killed(running: RunningService) -> None:
    """Each round is answered whole before the next kill: an image that is met by two kills is refused, and rightly."""
    with httpx.Client(base_url=running.url, timeout=PATIENCE_S) as client, ThreadPoolExecutor(6) as callers:
        expected = [probabilities(client.post("/v1/diagnose", files=form(RECORDS, file))) for file in FILES]
        parts = [(f"images.{n}", ("x", FILES[n % 4])) for n in range(8)]
        requests = ("requests", (None, json.dumps([RECORDS] * 8), "application/json"))

        def ask(number: int) -> list[float]:
            return probabilities(client.post("/v1/diagnose", files=form(RECORDS, FILES[number % 4])))

        for _ in range(ROUNDS):
            asked = [callers.submit(ask, number) for number in range(12)]
            job = client.post("/v1/jobs", files=[*parts, requests]).json()["job_id"]
            wait(asked, return_when=FIRST_COMPLETED)
            for decoder in decoders(running):
                decoder.kill()
            for number, answer in enumerate(asked):
                assert answer.result() == pytest.approx(expected[number % 4], abs=1e-6)
            while client.get(f"/v1/jobs/{job}").json()["state"] in ("queued", "running"):
                time.sleep(0.1)
            *lines, count = map(json.loads, client.get(f"/v1/jobs/{job}/results").text.splitlines())
            assert count == {"studies": 8, "answered": 8, "refused": 0}
            for line in lines:
                answer = [finding["probability"] for finding in line["answer"]["findings"]]
                assert answer == pytest.approx(expected[line["study"] % 4], abs=1e-6)


def test_admitted_requests_are_answered_when_the_service_is_stopped(running: RunningService) -> None:
    """As systemd tells it, every process by itself; the supervisor passes the signal on to the decoders once more."""
    with ThreadPoolExecutor(8) as callers:

        def ask(number: int) -> httpx.Response:
            return httpx.post(f"{running.url}/v1/diagnose", files=form(RECORDS, *FILES), timeout=PATIENCE_S)

        asked = _all_amid(running, lambda: [callers.submit(ask, number) for number in range(8)])
        supervisor = psutil.Process(running.pid)
        for process in [*supervisor.children(recursive=True), supervisor]:
            process.terminate()
        assert [len(probabilities(one.result())) > 0 for one in asked] == [True] * 8


def _all_amid(running: RunningService, ask: Callable[[], list[Future[httpx.Response]]]) -> list[Future[httpx.Response]]:
    """Requests that are all admitted and none answered; asked anew where the first was answered too soon for that."""
    for _ in range(20):
        asked = ask()
        while not any(one.done() for one in asked):
            if admitted(running) == len(asked):
                return asked
        wait(asked)
    raise AssertionError("too fast to be stopped amid")
