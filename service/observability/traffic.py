"""Each request's count, its time, its span, and its line in the log: by its route, never by its content.

BentoML's own access log and metrics show the path as the caller wrote it, and are off.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from contextlib import nullcontext

from opentelemetry.trace import INVALID_SPAN
from starlette.datastructures import Headers
from starlette.routing import BaseRoute, Match, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.observability.logs import REQUEST_STATE, shown_id
from service.observability.metrics import Metrics
from service.observability.tracing import note_answer, tracing

logger = logging.getLogger("consilium.access")

_PROBES = frozenset({"/livez", "/readyz", "/healthz"})
_QUIET = _PROBES | {"/metrics"}
"""Asked every few seconds by machines: counted, not traced, and not logged, unless the answer is none of these."""
_EXPECTED = frozenset({200, 503})
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
OTHER = "other"
_ABORTED = 499
_PARENT = "traceparent"


class Traffic:
    """ASGI middleware around everything else.

    Parameters
    ----------
    app : ASGIApp
    routes : sequence of BaseRoute
        Those that have names of their own in log and metrics.
    metrics : Metrics
    """

    def __init__(self, app: ASGIApp, routes: Sequence[BaseRoute], metrics: Metrics) -> None:
        self._app = app
        self._routes = routes
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        endpoint = self._endpoint(scope)
        # `Authentication` writes the request's id into the state; whatever logs meanwhile finds it there.
        state = REQUEST_STATE.set(scope.setdefault("state", {}))
        status, begun = _ABORTED, time.perf_counter()

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        method = scope["method"] if scope["method"] in _METHODS else OTHER
        # Of what the caller sends about its trace only this has a form; ``tracestate`` may hold anything.
        parent = {_PARENT: Headers(scope=scope).get(_PARENT, "")}
        traced = nullcontext(INVALID_SPAN) if endpoint in _QUIET else tracing.request(f"{method} {endpoint}", parent)
        with traced as span:
            try:
                await self._app(scope, receive, answer)
            finally:
                self._note(endpoint, method, status, time.perf_counter() - begun)
                note_answer(span, method, endpoint, status, shown_id(str(scope["state"].get("request_id", ""))))
                REQUEST_STATE.reset(state)

    def _note(self, endpoint: str, method: str, status: int, seconds: float) -> None:
        self._metrics.requests.labels(endpoint, method, str(status)).inc()
        self._metrics.request_seconds.labels(endpoint).observe(seconds)
        if endpoint not in _QUIET or status not in _EXPECTED:
            milliseconds = round(1000 * seconds, 1)
            extra = {"endpoint": endpoint, "method": method, "status": status, "milliseconds": milliseconds}
            logger.info("request", extra=extra)

    def _endpoint(self, scope: Scope) -> str:
        """The route's own path, with names where the caller's values stand."""
        if scope["path"] in _PROBES:
            return str(scope["path"])
        for route in self._routes:
            if isinstance(route, Route) and route.matches(scope)[0] is not Match.NONE:
                return route.path_format
        return OTHER
