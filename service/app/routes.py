"""The routes: diagnoses of one study or a batch, explanations, similar cases, search, model, card, monitor, OpenAPI.

A FastAPI application, mounted by the BentoML service. The bodies are read by `service.http.multipart`, not by FastAPI
or BentoML, so that every limit holds while they arrive and every error is a problem document.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from http import HTTPStatus
from typing import TYPE_CHECKING, Literal, TypeVar

from fastapi import FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Match

from consilium import __version__
from service.app import openapi, study_endpoints
from service.app.guarded import guarded, receive_body
from service.audit_log import audit_routes
from service.audit_log.entries import Origin
from service.audit_log.idempotency import REPLAYED
from service.audit_log.recorder import Answered
from service.batching import Batcher, Closed, Place, QueueFull
from service.http.deadlines import in_time, while_connected
from service.http.multipart import Form, read_form, read_job, read_worklist
from service.http.problems import NotOffered, Unavailable, problem_response
from service.jobs import job_routes
from service.observability.metrics import MEDIA_TYPE as METRICS_MEDIA_TYPE
from service.observability.metrics import Metrics
from service.page import page_routes
from service.serving.engine import CARD_PATH, Engine
from service.serving.worklist import WorklistResponse
from service.settings import Settings
from service.studies import study_routes
from service.studies.reader import require_member

if TYPE_CHECKING:
    from service.app.lifecycle import Lifecycle

Item = TypeVar("Item")
Answer = TypeVar("Answer")
Read = TypeVar("Read")
Found = TypeVar("Found")

PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; sandbox",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
"""Of the model's card and the monitor's report: nothing is fetched, no script runs, nobody frames it."""
_INLINE_SCRIPT = re.compile(rb"<script>(.*?)</script>", re.DOTALL)


def create_app() -> FastAPI:
    """The application. It answers 503 until `app.state.lifecycle` holds a `Lifecycle` whose engine is ready."""
    app = FastAPI(
        title="Consilium", version=__version__, description=openapi.DESCRIPTION, openapi_url=None, docs_url=None
    )
    app.state.lifecycle = None
    app.state.metrics = Metrics()
    app.add_api_route("/v1/diagnose", _diagnose, methods=["POST"], **openapi.DIAGNOSE)
    app.add_api_route("/v1/diagnose/batch", _worklist, methods=["POST"], **openapi.WORKLIST)
    app.add_api_route("/v1/explain", _explain, methods=["POST"], **openapi.EXPLAIN)
    app.add_api_route("/v1/draft", _draft, methods=["POST"], **openapi.DRAFT)
    app.add_api_route("/v1/similar", _similar, methods=["POST"], **openapi.SIMILAR)
    app.add_api_route("/v1/search", _search, methods=["POST"], **openapi.SEARCH)
    app.add_api_route("/v1/jobs", _submit, methods=["POST"], **openapi.SUBMIT)
    app.add_api_route("/v1/jobs/{job_id}", _job, methods=["GET"], **openapi.JOB)
    app.add_api_route("/v1/jobs/{job_id}", _cancel, methods=["DELETE"], **openapi.CANCEL)
    app.add_api_route("/v1/jobs/{job_id}/results", _job_results, methods=["GET"], **openapi.JOB_RESULTS)
    app.add_api_route("/v1/jobs/{job_id}/results", _discard, methods=["DELETE"], **openapi.DISCARD)
    study_endpoints.add_to(app)
    app.add_api_route("/v1/results/{result_id}", _result, methods=["GET"], **openapi.RESULT)
    app.add_api_route("/v1/feedback", _feedback, methods=["POST"], **openapi.FEEDBACK)
    app.add_api_route("/v1/model", _model, methods=["GET"], **openapi.MODEL)
    app.add_api_route(CARD_PATH, _card, methods=["GET"], **openapi.CARD)
    app.add_api_route("/v1/monitor", _monitor, methods=["GET"], **openapi.MONITOR)
    app.add_api_route("/v1/monitor/report", _monitor_report, methods=["GET"], **openapi.MONITOR_REPORT)
    app.add_api_route("/metrics", _metrics, methods=["GET"], include_in_schema=False)
    # These come before BentoML's own, whose index page lets the reader's browser call a tracker.
    for path in ("/openapi.json", "/docs.json"):
        app.add_api_route(path, _openapi, methods=["GET"], include_in_schema=False)
    for path in ("/", "/docs"):
        app.add_api_route(path, _page, methods=["GET"], include_in_schema=False)
    page_routes.add_routes(app)
    app.add_exception_handler(HTTPException, _problem)
    return app


async def _diagnose(request: Request) -> Response:
    return await guarded(request, lambda running: _one_study(request, running.engine, "diagnose"))


async def _explain(request: Request) -> Response:
    return await guarded(request, lambda running: _one_study(request, running.engine, "explain"))


async def _draft(request: Request) -> Response:
    return await guarded(request, lambda running: _one_study(request, running.engine, "draft"))


async def _similar(request: Request) -> Response:
    return await guarded(request, lambda running: _one_study(request, running.engine, "similar"))


async def _search(request: Request) -> Response:
    return await guarded(request, lambda running: _one_study(request, running.engine, "search"))


async def _worklist(request: Request) -> Response:
    async def answer(running: Lifecycle) -> Response:
        origin = audit_routes.origin_of(request)
        with ExitStack() as held:
            held.enter_context(running.worklists.place())
            studies = await receive_body(request, running.engine, read_worklist)
            _charge(request, studies)
            return WorklistResponse(running.engine, studies, origin, held.pop_all())

    return await guarded(request, answer)


async def _submit(request: Request) -> Response:
    async def answer(running: Lifecycle) -> Response:
        group = job_routes.group_of(request, job_routes.kind_of(request), stored=running.settings.studies)
        if group is not None:
            require_member(request, group)
        # Until it is kept, its body lies in memory as a worklist's does.
        with running.worklists.place():
            await job_routes.check_room(request, running.jobs)
            if group is not None:
                await study_routes.check_room(running.studies)
            studies = await receive_body(request, running.engine, read_job)
            _charge(request, studies)
            return await job_routes.submit(request, running.jobs, studies, group)

    return await guarded(request, answer)


async def _job(request: Request) -> Response:
    return await guarded(request, lambda running: job_routes.show(request, running.jobs))


async def _cancel(request: Request) -> Response:
    return await guarded(request, lambda running: job_routes.cancel(request, running.jobs))


async def _job_results(request: Request) -> Response:
    return await guarded(request, lambda running: job_routes.results(request, running.jobs))


async def _discard(request: Request) -> Response:
    return await guarded(request, lambda running: job_routes.discard(request, running.jobs))


async def _result(request: Request) -> Response:
    return await guarded(request, lambda running: audit_routes.result(request, running.engine.recorder))


async def _feedback(request: Request) -> Response:
    return await guarded(
        request,
        lambda running: audit_routes.feedback(request, running.engine.recorder, running.settings.receive_timeout_s),
    )


async def _model(request: Request) -> Response:
    async def answer(running: Lifecycle) -> Response:
        return _json(running.engine.information())

    return await guarded(request, answer)


async def _card(request: Request) -> Response:
    async def answer(running: Lifecycle) -> Response:
        if running.engine.card is None:
            raise HTTPException(HTTPStatus.NOT_FOUND, "This model has no card.")
        return HTMLResponse(running.engine.card, headers=PAGE_HEADERS)

    return await guarded(request, answer)


async def _monitor(request: Request) -> Response:
    async def answer(running: Lifecycle) -> Response:
        return _json(_offered(await asyncio.to_thread(running.monitor.latest)))

    return await guarded(request, answer)


async def _monitor_report(request: Request) -> Response:
    async def answer(running: Lifecycle) -> Response:
        return HTMLResponse(_offered(await asyncio.to_thread(running.monitor.report)), headers=PAGE_HEADERS)

    return await guarded(request, answer)


def _offered(found: Found | None) -> Found:
    if found is None:
        raise NotOffered("The answers of this model have not been looked at yet: see `consilium monitor run`.")
    return found


async def _metrics(request: Request) -> Response:
    exposition = await asyncio.to_thread(request.app.state.metrics.exposition)
    return Response(exposition, media_type=METRICS_MEDIA_TYPE)


async def _openapi(request: Request) -> Response:
    return Response(openapi.document(request.app), media_type="application/json")


async def _page() -> Response:
    """The description for a reader, of files that BentoML brings along: nothing is fetched from elsewhere."""
    page = get_swagger_ui_html(
        # Relative, as a proxy may have put a prefix before all paths.
        openapi_url="docs.json",
        title="Consilium",
        swagger_js_url="static_content/swagger-ui-bundle.js",
        swagger_css_url="static_content/swagger-ui.css",
        swagger_favicon_url="static_content/favicon-light-32x32.png",
        swagger_ui_parameters={"validatorUrl": None},
    )
    page.headers.update(PAGE_HEADERS | {"Content-Security-Policy": _policy_of(bytes(page.body))})
    return page


def _policy_of(page: bytes) -> str:
    """What `page` may do: run the scripts that stand in it and those of this service, and ask this service."""
    digests = (hashlib.sha256(script).digest() for script in _INLINE_SCRIPT.findall(page))
    allowed = " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)
    return (
        f"default-src 'none'; script-src 'self' {allowed}; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


async def _problem(request: Request, error: Exception) -> Response:
    answer = problem_response(error)
    if answer.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        # The router names the methods of the first route of this path, and each method has a route of its own.
        routes = [route for route in request.app.routes if route.matches(request.scope)[0] is not Match.NONE]
        answer.headers["Allow"] = ", ".join(sorted({method for route in routes for method in route.methods or ()}))
    return answer


def _json(answer: BaseModel) -> Response:
    return Response(answer.model_dump_json(), media_type="application/json")


def _sent(answered: Answered) -> Response:
    headers = {REPLAYED: "true"} if answered.replayed else None
    return Response(answered.body, media_type="application/json", headers=headers)


async def _one_study(
    request: Request, engine: Engine, endpoint: Literal["diagnose", "explain", "draft", "similar", "search"]
) -> Response:
    """Admit, receive, answer; each within its time, and only while the caller is there."""
    settings, origin = engine.settings, audit_routes.origin_of(request)
    if endpoint == "diagnose":
        return await _multipart(request, engine, engine.diagnoses, engine.diagnose, origin, settings.answer_timeout_s)
    if endpoint == "search":
        searches = engine.searching.searches
        return await _multipart(request, engine, searches, engine.search, origin, settings.answer_timeout_s)
    answer = {"explain": engine.explain, "draft": engine.draft, "similar": engine.similar}[endpoint]
    return await _multipart(request, engine, engine.explanations, answer, origin, settings.explanation_timeout_s)


async def _multipart(
    request: Request,
    engine: Engine,
    batcher: Batcher[Item, Answer],
    answer: Callable[[Form, Place[Item, Answer], Origin], Awaitable[Answered]],
    origin: Origin,
    seconds: float,
) -> Response:
    with _admit(batcher, engine.settings) as place:
        form = await receive_body(request, engine, read_form)
        async with in_time(seconds, "The answer"):
            return _sent(await while_connected(request, answer(form, place, origin)))


def _admit(batcher: Batcher[Item, Answer], settings: Settings) -> Place[Item, Answer]:
    try:
        return batcher.place()
    except QueueFull:
        raise Unavailable("Too many requests are waiting.", settings.retry_after_s) from None
    except Closed:
        raise Unavailable("The service is shutting down.", settings.retry_after_s) from None


def _charge(request: Request, studies: list[Form]) -> None:
    """Each study counts as a request of its caller; the first was counted when it was authenticated."""
    charge = getattr(request.state, "charge", None)
    if charge is not None:
        charge(len(studies) - 1)
