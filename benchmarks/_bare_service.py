"""A BentoML service that receives a body and answers: ``bentoml serve benchmarks._bare_service:Bare``.

What a request costs before anything is done for it: the same server, layers and size of body and answer as the
service's, whose body is neither parsed nor kept.
"""

from __future__ import annotations

import bentoml
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

_ANSWER = b"x" * 2000
"""About as long as a diagnosis of four findings."""


async def _receive(request: Request) -> Response:
    async for _ in request.stream():
        pass
    return Response(_ANSWER, media_type="application/json")


@bentoml.service(
    name="bare",
    workers=1,
    metrics={"enabled": False},
    logging={"access": {"enabled": False}},
    tracing={"excluded_urls": [".*"]},
)
@bentoml.asgi_app(Starlette(routes=[Route("/v1/diagnose", _receive, methods=["POST"])]), path="/")
class Bare:
    """Answers every study with the same bytes."""
