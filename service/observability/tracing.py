"""Where a request's time goes, for a collector of OpenTelemetry: one span a request, one a stage within it.

Off unless ``CONSILIUM_OTLP_ENDPOINT`` names the collector. A request that comes with a ``traceparent`` goes on in its
caller's trace. Spans have the names of routes and stages, method and status; no content of a request.

BentoML's own are left out (`service.app.service`). The request's span is kept here and not taken from OpenTelemetry's
current context, where other libraries have theirs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import Span, SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from consilium import __version__

_REQUEST: ContextVar[Span | None] = ContextVar("request_span", default=None)
_PARENT = TraceContextTextMapPropagator()
_SERVER_ERROR = 500


class Tracing:
    """Makes the spans of one process; `start` before they go anywhere, `stop` sends what is left."""

    def __init__(self) -> None:
        self._provider: TracerProvider | None = None

    def start(self, endpoint: str | None, share: float) -> None:
        """Send spans to `endpoint`; of the traces that begin here, this `share`. Without endpoint there are none."""
        if endpoint is None:
            return
        self._provider = TracerProvider(
            sampler=ParentBased(TraceIdRatioBased(share)),
            resource=Resource({SERVICE_NAME: "consilium", SERVICE_VERSION: __version__}),
            span_limits=SpanLimits(max_attributes=16, max_events=0),
        )
        # Its queue is bounded: what a collector that is down does not take is dropped.
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint)))

    def stop(self) -> None:
        """Send what is left. Waits for the collector: not for the event loop."""
        if self._provider is not None:
            self._provider.shutdown()
            self._provider = None

    @contextmanager
    def request(self, name: str, headers: Mapping[str, str]) -> Iterator[Span]:
        """The span of one request, in the trace that `headers` name."""
        if self._provider is None:
            yield trace.INVALID_SPAN
            return
        tracer = self._provider.get_tracer("consilium")
        span = tracer.start_span(name, _PARENT.extract(headers), SpanKind.SERVER)
        token = _REQUEST.set(span)
        try:
            yield span
        finally:
            _REQUEST.reset(token)
            span.end()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """The span of one stage of the request that is being answered here; of none, there is none."""
        request = _REQUEST.get()
        if self._provider is None or request is None:
            yield
            return
        tracer = self._provider.get_tracer("consilium")
        span = tracer.start_span(name, trace.set_span_in_context(request))
        try:
            yield
        except BaseException:
            span.set_status(StatusCode.ERROR)
            raise
        finally:
            span.end()


def note_answer(span: Span, method: str, endpoint: str, status: int, request_id: str) -> None:
    """Note on a request's span how it ended, and its id as it stands in the log."""
    span.set_attributes(
        {
            "http.request.method": method,
            "http.route": endpoint,
            "http.response.status_code": status,
            "consilium.request_id": request_id,
        }
    )
    if status >= _SERVER_ERROR:
        span.set_status(StatusCode.ERROR)


tracing = Tracing()
"""Of this process."""
