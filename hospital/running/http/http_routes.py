"""The gateway's own HTTP routes: whether it lives, whether it is ready, its metrics; and those that parts add."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from hospital.store.received import StoreUnavailable


def http_routes(
    unready: Callable[[], str | None], metrics: Callable[[], bytes], more: Sequence[BaseRoute] = ()
) -> Starlette:
    """The application.

    Parameters
    ----------
    unready : callable
        Why nothing should be sent to the gateway now; None where it is ready. Called on a thread.
    metrics : callable
        See `hospital.running.gateway_metrics.exposition`. Called on a thread.
    more : sequence of routes
    """

    async def healthz(_: Request) -> Response:
        return JSONResponse({"status": "alive"})

    async def readyz(_: Request) -> Response:
        reason = await asyncio.to_thread(unready)
        return JSONResponse({"status": reason or "ready"}, status_code=200 if reason is None else 503)

    async def metrics_text(_: Request) -> Response:
        try:
            return Response(await asyncio.to_thread(metrics), media_type=CONTENT_TYPE_LATEST)
        except StoreUnavailable:
            return JSONResponse({"status": "the store cannot be reached"}, status_code=503)

    own = [Route("/healthz", healthz), Route("/readyz", readyz), Route("/metrics", metrics_text)]
    return Starlette(routes=[*own, *more])
