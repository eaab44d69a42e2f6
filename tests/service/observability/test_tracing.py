from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from consilium.domain.errors import InputError
from service.app.lifecycle import Lifecycle
from service.app.routes import create_app
from service.app.service import Consilium
from service.observability.tracing import Tracing, tracing
from service.observability.traffic import Traffic
from service.settings import Settings, load_settings
from tests.service.collector import Collector, collector
from tests.service.fakes import FakeModel

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.fixture
def collected() -> Iterator[Collector]:
    with collector() as running:
        yield running


def attributes(span: Span) -> dict[str, Any]:
    return {a.key: a.value.string_value or a.value.int_value for a in span.attributes}


def ask(endpoint: str | None, share: float, *requests: tuple[str, str, dict[str, str]]) -> list[int]:
    """Statuses of `requests` (method, path, headers) to a service in this process; all spans are sent at the end."""

    async def scenario() -> list[int]:
        app = create_app()
        lifecycle = Lifecycle(Settings(model="fake"), lambda _: FakeModel(), app.state.metrics)
        tracing.start(endpoint, share)
        await lifecycle.start()
        app.state.lifecycle = lifecycle
        try:
            transport = httpx.ASGITransport(Traffic(app, app.routes, app.state.metrics))
            async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
                note = {"request": (None, '{"notes": [{"kind": "history", "text": "Cough."}]}', "application/json")}
                answers = [
                    await client.request(method, path, headers=headers, files=note if method == "POST" else None)
                    for method, path, headers in requests
                ]
            return [answer.status_code for answer in answers]
        finally:
            await lifecycle.stop()
            await asyncio.to_thread(tracing.stop)

    return asyncio.run(scenario())


def test_a_request_has_a_span_with_its_stages_in_its_callers_trace(collected: Collector) -> None:
    parent = {"traceparent": f"00-{TRACE}-{PARENT}-01", "tracestate": "somebody=elses"}
    assert ask(collected.url, 0.0, ("POST", "/v1/diagnose", parent)) == [200]
    (request,) = collected.named("POST /v1/diagnose")
    assert (request.trace_id.hex(), request.parent_span_id.hex()) == (TRACE, PARENT)
    assert request.kind == Span.SPAN_KIND_SERVER
    assert request.trace_state == ""
    found = attributes(request)
    assert found.pop("consilium.request_id")
    assert found == {"http.request.method": "POST", "http.route": "/v1/diagnose", "http.response.status_code": 200}
    stages = [span for span in collected.spans if span.parent_span_id == request.span_id]
    assert [span.name for span in stages] == ["receive", "decode", "prepare", "diagnose", "record"]
    assert all(span.trace_id == request.trace_id for span in stages)
    assert all(request.start_time_unix_nano <= s.start_time_unix_nano < s.end_time_unix_nano for s in stages)


def test_what_the_caller_wrote_is_no_name(collected: Collector) -> None:
    assert ask(collected.url, 1.0, ("GET", "/v1/results/Roe?q=1953", {}), ("GET", "/Jane/Roe", {})) == [422, 404]
    assert {span.name for span in collected.spans} == {"GET /v1/results/{result_id}", "GET other"}
    assert all(b"Roe" not in body and b"1953" not in body for body in collected.bodies)


def test_only_a_share_of_the_traces_that_begin_here_is_made(collected: Collector) -> None:
    assert ask(collected.url, 0.0, ("GET", "/v1/model", {})) == [200]
    assert collected.bodies == []


def test_a_stage_that_fails_is_marked(collected: Collector) -> None:
    own = Tracing()
    own.start(collected.url, 1.0)
    with own.request("POST /v1/diagnose", {}), pytest.raises(ZeroDivisionError), own.stage("decode"):
        raise ZeroDivisionError("Jane Roe")
    with own.stage("of no request"):
        pass
    own.stop()
    (stage,) = collected.named("decode")
    assert stage.status.code == stage.status.STATUS_CODE_ERROR
    assert b"Roe" not in b"".join(collected.bodies)
    assert {span.name for span in collected.spans} == {"decode", "POST /v1/diagnose"}


def test_without_an_endpoint_there_are_no_spans() -> None:
    assert ask(None, 1.0, ("GET", "/v1/model", {})) == [200]


@pytest.mark.parametrize("path", ["/", "/v1/diagnose", "/v1/jobs/a\nb", "/readyz"])
def test_bentoml_makes_no_spans_of_its_own(path: str) -> None:
    middlewares = Consilium.to_asgi(is_main=True).user_middleware  # type: ignore[attr-defined]  # BentoML's decorator
    (one,) = [middleware for middleware in middlewares if middleware.cls is OpenTelemetryMiddleware]
    assert one.kwargs["excluded_urls"].url_disabled(f"http://127.0.0.1:3000{path}")


def test_an_endpoint_that_is_no_address_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONSILIUM_MODEL", "model")
    monkeypatch.setenv("CONSILIUM_OTLP_ENDPOINT", "collector:4317")
    with pytest.raises(InputError, match="CONSILIUM_OTLP_ENDPOINT"):
        load_settings()
