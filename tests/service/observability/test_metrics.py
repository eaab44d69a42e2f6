from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from http import HTTPStatus
from typing import Any

import httpx
import pytest
from starlette.types import Receive, Scope, Send

from consilium.domain.diagnosis import ModelIdentity, OutOfDistributionScore
from service.app.lifecycle import Lifecycle
from service.app.routes import create_app
from service.observability.metrics import Metrics
from service.observability.traffic import OTHER, Traffic
from service.serving.engine import Engine
from service.serving.served_model import Model
from service.settings import Settings
from tests.conftest import ROOT
from tests.patience import PATIENCE_S
from tests.service.app.test_routes import note, png
from tests.service.fakes import FakeModel, note_study

DASHBOARD = json.loads((ROOT / "deploy/grafana/consilium.json").read_text(encoding="utf-8"))
NAMES = re.compile(r"\b((?:consilium|process)_\w+)")


def value(metrics: Metrics, name: str, /, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, labels)


def observed(scenario: Any, **settings: Any) -> Metrics:
    """The metrics of an application with its traffic counted, after `scenario`."""
    model, app = FakeModel(), create_app()
    metrics: Metrics = app.state.metrics

    async def go() -> None:
        def load(_: Settings) -> Model:
            return model

        lifecycle = Lifecycle(Settings(model="fake", **settings), load, metrics)
        await lifecycle.start()
        app.state.lifecycle = lifecycle
        try:
            transport = httpx.ASGITransport(Traffic(app, app.routes, metrics))
            async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
                await scenario(client, model, lifecycle.engine)
        finally:
            model.hold.set()
            await lifecycle.stop()

    asyncio.run(asyncio.wait_for(go(), PATIENCE_S))
    return metrics


def test_requests_are_counted_by_route_and_status() -> None:
    async def scenario(client: httpx.AsyncClient, *_: Any) -> None:
        for number in range(3):
            await client.post("/v1/diagnose", files=note("x" * number or "y"))
        await client.post("/v1/diagnose", files={"request": (None, "no JSON")})
        await client.get("/v1/results/Jane-Roe")
        await client.get("/v1/model")
        for path in ("/Jane-Roe", "/v1/diagnose/Jane-Roe", "/livez"):
            assert (await client.get(path)).status_code == HTTPStatus.NOT_FOUND
        await client.get("/v1/diagnose")
        await client.request("JANEROE", "/v1/model")

    metrics = observed(scenario)
    found = {
        (sample.labels["endpoint"], sample.labels["method"], sample.labels["status"]): sample.value
        for family in metrics.registry.collect()
        for sample in family.samples
        if sample.name == "consilium_requests_total"
    }
    assert found == {
        ("/v1/diagnose", "POST", "200"): 3,
        ("/v1/diagnose", "POST", "400"): 1,
        ("/v1/diagnose", "GET", "405"): 1,
        ("/v1/results/{result_id}", "GET", "422"): 1,
        ("/v1/model", "GET", "200"): 1,
        ("/v1/model", OTHER, "405"): 1,
        (OTHER, "GET", "404"): 2,
        ("/livez", "GET", "404"): 1,
    }
    assert value(metrics, "consilium_request_seconds_count", endpoint="/v1/diagnose") == 5
    assert "Roe" not in metrics.exposition().decode()


def test_a_request_that_breaks_off_is_counted_as_such() -> None:
    metrics = Metrics()

    async def breaks(scope: Scope, receive: Receive, send: Send) -> None:
        raise ZeroDivisionError

    async def go() -> None:
        transport = httpx.ASGITransport(Traffic(breaks, [], metrics))
        async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
            with pytest.raises(ZeroDivisionError):
                await client.get("/")

    asyncio.run(go())
    assert value(metrics, "consilium_requests_total", endpoint=OTHER, method="GET", status="499") == 1


def test_each_stage_of_each_answer_is_measured() -> None:
    async def scenario(client: httpx.AsyncClient, *_: Any) -> None:
        files = [("images", ("x", png(51))), *note("Cough.").items()]
        assert (await client.post("/v1/diagnose", files=files)).status_code == HTTPStatus.OK
        assert (await client.post("/v1/explain", files=files)).status_code == HTTPStatus.OK

    metrics = observed(scenario)
    expected = {"receive": 2, "decode": 2, "prepare": 2, "diagnose": 1, "explain": 1, "record": 2}
    assert {name: value(metrics, "consilium_stage_seconds_count", stage=name) for name in expected} == expected
    assert value(metrics, "consilium_batch_size_sum", queue="diagnose") == 1


def test_the_queues_are_seen_while_they_are_full() -> None:
    seen: dict[str, float | None] = {}

    async def scenario(client: httpx.AsyncClient, model: FakeModel, engine: Engine) -> None:
        model.entered.clear()
        model.hold.clear()
        asked = [asyncio.create_task(client.post("/v1/diagnose", files=note("Cough."))) for _ in range(4)]
        await asyncio.to_thread(model.entered.wait, PATIENCE_S)
        while engine.diagnoses.waiting < 3:
            await asyncio.sleep(0.001)
        for name in ("admitted_requests", "queue_depth"):
            seen[name] = value(engine.metrics, f"consilium_{name}", queue="diagnose")
        model.hold.set()
        await asyncio.gather(*asked)

    metrics = observed(scenario, batch_size=1)
    assert seen == {"admitted_requests": 4, "queue_depth": 3}
    assert value(metrics, "consilium_admitted_requests", queue="diagnose") == 0
    assert value(metrics, "consilium_batch_size_count", queue="diagnose") == 4


def test_what_is_answered_is_counted_by_version() -> None:
    metrics, model = Metrics(), FakeModel()
    (diagnosis,) = model.diagnose_prepared([model.prepare(note_study("x" * 340))])
    open_finding = replace(diagnosis.findings[0], refer_reasons=("The model cannot tell.",))
    diagnosis = diagnosis.model_copy(update={"findings": (open_finding, *diagnosis.findings[1:])})
    metrics.answered("serving", diagnosis)
    scores = (
        OutOfDistributionScore("text", 9.0, 0.001, out_of_distribution=True),
        OutOfDistributionScore("fused", 9.0, 0.5, out_of_distribution=False),
    )
    metrics.answered("serving", diagnosis.model_copy(update={"refer_reasons": (), "out_of_distribution": scores}))
    of_it = {"role": "serving", "version": "7"}
    assert value(metrics, "consilium_answers_total", **of_it) == 2
    assert value(metrics, "consilium_referred_answers_total", **of_it) == 1
    assert value(metrics, "consilium_referred_findings_total", **of_it, finding="pneumonia") == 1
    assert value(metrics, "consilium_referred_findings_total", **of_it, finding="pneumothorax") is None
    assert value(metrics, "consilium_out_of_distribution_answers_total", **of_it, part="text") == 1
    assert value(metrics, "consilium_out_of_distribution_answers_total", **of_it, part="fused") is None
    assert value(metrics, "consilium_probability_bucket", **of_it, finding="pneumonia", le="0.3") == 0
    assert value(metrics, "consilium_probability_bucket", **of_it, finding="pneumonia", le="0.4") == 2
    assert value(metrics, "consilium_probability_sum", **of_it, finding="pneumothorax") == pytest.approx(0.68)


def test_one_version_is_shown_in_each_role() -> None:
    metrics = Metrics()
    first, second = (ModelIdentity("consilium-x", number, number * 64) for number in "12")
    metrics.loaded("serving", first, None)
    metrics.loaded("serving", second, first)
    metrics.loaded("canary", first, None)
    metrics.loaded("canary", None, first)

    def shown(role: str, identity: ModelIdentity) -> float | None:
        return value(metrics, "consilium_model_info", role=role, **identity.to_json())

    assert (shown("serving", first), shown("serving", second), shown("canary", first)) == (None, 1, None)
    assert value(metrics, "consilium_model_swaps_total", role="serving") == 1
    assert value(metrics, "consilium_model_swaps_total", role="canary") is None


def test_the_metrics_route_answers_before_a_model_is_loaded() -> None:
    async def go() -> httpx.Response:
        transport = httpx.ASGITransport(create_app())
        async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
            return await client.get("/metrics")

    answer = asyncio.run(go())
    assert answer.status_code == HTTPStatus.OK
    assert answer.headers["content-type"].startswith("text/plain; version=")
    assert "process_resident_memory_bytes" in answer.text


# --- the dashboard ---------------------------------------------------------------------------------------------------


def _expressions(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        yield from (text for key, text in node.items() if key in ("expr", "query") and isinstance(text, str))
        for inner in node.values():
            yield from _expressions(inner)
    elif isinstance(node, list):
        for inner in node:
            yield from _expressions(inner)


def _known() -> dict[str, set[str]]:
    """Every series that the service shows, with its labels."""
    metrics = Metrics()
    known: dict[str, set[str]] = {}
    for metric in vars(metrics).values():
        if hasattr(metric, "_labelnames"):
            labels = set(metric._labelnames)
            suffixes = {"counter": ["_total"], "gauge": [""], "histogram": ["_bucket", "_sum", "_count"]}[metric._type]
            known |= {
                f"{metric._name}{suffix}": labels | ({"le"} if suffix == "_bucket" else set()) for suffix in suffixes
            }
    return known | {
        sample.name: set()
        for family in metrics.registry.collect()
        for sample in family.samples
        if sample.name.startswith("process_")
    }


def test_every_metric_and_label_of_the_dashboard_exists_and_every_metric_is_shown() -> None:
    known, used = _known(), set()
    expressions = list(_expressions(DASHBOARD))
    assert len(expressions) > 20
    for expression in expressions:
        names = set(NAMES.findall(expression))
        assert names <= set(known), f"{expression}: {names - set(known)}"
        used |= names
        labels = {"job", "instance"}.union(*(known[name] for name in names))
        selected = set(re.findall(r"(\w+)=~?\"", expression))
        grouped = {
            label.strip()
            for group in re.findall(r"(?:by|ignoring) \(([^)]*)\)", expression)
            for label in group.split(",")
        }
        assert selected | grouped <= labels, expression
    families = {re.sub(r"_(total|bucket|sum|count)$", "", name) for name in used}
    assert families >= {
        re.sub(r"_(total|bucket|sum|count)$", "", name) for name in known if name.startswith("consilium")
    }


def test_the_panels_of_the_dashboard_lie_beside_each_other() -> None:
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    cells = [
        (column, line)
        for place in (panel["gridPos"] for panel in panels)
        for column in range(place["x"], place["x"] + place["w"])
        for line in range(place["y"], place["y"] + place["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(column for column, _ in cells) < 24
