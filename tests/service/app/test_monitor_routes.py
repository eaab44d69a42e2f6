"""What `consilium monitor run` left, as JSON, as a page, and as gauges."""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from consilium.api.schemas import MonitorAnswer
from service.app.lifecycle import Lifecycle
from service.app.openapi_examples import MONITOR
from service.app.routes import PAGE_HEADERS, create_app
from service.settings import Settings
from tests.patience import PATIENCE_S
from tests.service.fakes import FakeModel

PAGE = "<!doctype html><title>Monitor</title>"
GAUGES = [
    {"name": "consilium_monitor_alarms", "labels": {"version": "7"}, "value": 2.0},
    {"name": "consilium_monitor_auroc", "labels": {"finding": 'a "b"', "reads": "as confirmed"}, "value": 0.75},
    {"name": "consilium_monitor_auroc", "labels": {"finding": "c"}, "value": 0.5},
]


@pytest.fixture
def folder(embedded_audit_log: Path) -> Path:
    folder = embedded_audit_log / "monitor" / FakeModel.identity.name
    folder.mkdir(parents=True)
    return folder


def write(folder: Path, **keys: Any) -> None:
    made = folder / "latest.json.new"
    made.write_text(json.dumps(MONITOR | {"model": "consilium-fake"} | keys))
    made.rename(folder / "latest.json")


def serve(scenario: Callable[[httpx.AsyncClient], Awaitable[None]]) -> None:
    async def go() -> None:
        app = create_app()
        lifecycle = Lifecycle(Settings(model="fake"), lambda _: FakeModel(), app.state.metrics)
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
            assert "consilium_monitor" not in (await client.get("/metrics")).text
            await lifecycle.start()
            app.state.lifecycle = lifecycle
            try:
                await scenario(client)
            finally:
                await lifecycle.stop()

    asyncio.run(asyncio.wait_for(go(), PATIENCE_S))


def test_the_latest_look_is_given_whole_and_so_is_the_next(folder: Path) -> None:
    async def scenario(client: httpx.AsyncClient) -> None:
        assert (await client.get("/v1/monitor")).status_code == 404
        write(folder, tables={"univariate": [{"column": "x", "p_value": 0.5}]}, answers=17)
        first = await client.get("/v1/monitor")
        assert first.status_code == 200
        assert first.json() == MONITOR | {
            "model": "consilium-fake",
            "tables": {"univariate": [{"column": "x", "p_value": 0.5}]},
            "answers": 17,
        }
        MonitorAnswer.model_validate_json(first.content)
        write(folder, alarms=[])
        assert (await client.get("/v1/monitor")).json()["alarms"] == []
        (folder / "latest.json").unlink()
        assert (await client.get("/v1/monitor")).status_code == 404

    serve(scenario)


def test_the_report_is_a_page_that_can_do_nothing(folder: Path) -> None:
    async def scenario(client: httpx.AsyncClient) -> None:
        missing = await client.get("/v1/monitor/report")
        assert (missing.status_code, missing.headers["content-type"]) == (404, "application/problem+json")
        (folder / "report.html").write_text(PAGE)
        page = await client.get("/v1/monitor/report")
        assert (page.status_code, page.text) == (200, PAGE)
        assert {name: page.headers[name] for name in PAGE_HEADERS} == PAGE_HEADERS

    serve(scenario)


def test_gauges_stand_among_the_metrics(folder: Path) -> None:
    async def scenario(client: httpx.AsyncClient) -> None:
        write(folder, gauges=GAUGES)
        lines = (await client.get("/metrics")).text.splitlines()
        assert "# TYPE consilium_monitor_auroc gauge" in lines
        assert lines.count("# TYPE consilium_monitor_auroc gauge") == 1
        assert 'consilium_monitor_alarms{version="7"} 2.0' in lines
        assert 'consilium_monitor_auroc{finding="a \\"b\\"",reads="as confirmed"} 0.75' in lines
        assert 'consilium_monitor_auroc{finding="c"} 0.5' in lines
        write(folder, gauges=GAUGES[:1])
        assert "consilium_monitor_auroc" not in (await client.get("/metrics")).text

    serve(scenario)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("{", "not shown"),
        ("[]", "not shown"),
        (
            json.dumps(MONITOR | {"gauges": [{"name": "consilium_requests_total", "labels": {}, "value": 1}]}),
            "gauges.0",
        ),
        (json.dumps(MONITOR | {"gauges": [GAUGES[0] | {"labels": {'x"} 1\n': "y"}}]}), "gauges.0.labels"),
        (json.dumps(MONITOR | {"gauges": [GAUGES[0] | {"value": float("nan")}]}), "gauges.0.value"),
        (b"\xff", "cannot be read"),
    ],
)
def test_what_is_no_look_is_not_shown_and_told_once(
    folder: Path, caplog: pytest.LogCaptureFixture, content: str | bytes, told: str
) -> None:
    async def scenario(client: httpx.AsyncClient) -> None:
        (folder / "latest.json").write_bytes(content if isinstance(content, bytes) else content.encode())
        with caplog.at_level(logging.WARNING):
            for _ in range(2):
                assert (await client.get("/v1/monitor")).status_code == 404
                assert (await client.get("/metrics")).status_code == 200
        (message,) = [one for one in caplog.messages if "monitor" in one]
        assert told in message

    serve(scenario)


def test_a_file_that_is_too_large_is_not_read(folder: Path) -> None:
    async def scenario(client: httpx.AsyncClient) -> None:
        with (folder / "report.html").open("wb") as file:
            os.truncate(file.fileno(), (32 << 20) + 1)
        assert (await client.get("/v1/monitor/report")).status_code == 404

    serve(scenario)
