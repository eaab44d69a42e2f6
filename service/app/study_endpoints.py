"""The routes of stored studies, and of the figures for those who run the service."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from consilium.modalities.presentation import file_viewings
from service.app import openapi_studies as openapi
from service.app.guarded import guarded, receive_body
from service.http.multipart import read_form
from service.serving.engine import Engine
from service.studies import study_routes
from service.studies.study_runner import Studies

if TYPE_CHECKING:
    from service.app.lifecycle import Lifecycle

_STUDIES = "/v1/studies"
_STUDY = "/v1/studies/{study_id:uuid}"
"""Not ``search``."""


def add_to(app: FastAPI) -> None:
    """Add the routes to `app`."""
    app.add_api_route(_STUDIES, _submit, methods=["POST"], **openapi.SUBMIT)
    app.add_api_route(_STUDIES, _of_store(study_routes.worklist), methods=["GET"], **openapi.WORKLIST)
    app.add_api_route(f"{_STUDIES}/search", _of_store(study_routes.search), methods=["POST"], **openapi.SEARCH)
    app.add_api_route(_STUDY, _of_store_and_model(study_routes.detail), methods=["GET"], **openapi.DETAIL)
    app.add_api_route(_STUDY, _of_store(study_routes.delete), methods=["DELETE"], **openapi.DELETE)
    for name in file_viewings():
        words = _of_store(partial(study_routes.words, name=name))
        app.add_api_route(f"{_STUDY}/{name}/{{number}}", words, methods=["GET"], **openapi.words(name))
    app.add_api_route(f"{_STUDY}/answer", _of_store(study_routes.answer), methods=["GET"], **openapi.ANSWER)
    app.add_api_route(
        f"{_STUDY}/reads", _of_store_and_model(study_routes.add_read), methods=["POST"], **openapi.ADD_READ
    )
    app.add_api_route(
        f"{_STUDY}/flags", _of_store_and_model(study_routes.add_flag), methods=["POST"], **openapi.ADD_FLAG
    )
    app.add_api_route("/v1/reads", _of_store(study_routes.reads), methods=["GET"], **openapi.READS)
    app.add_api_route("/v1/operations", _operations, methods=["GET"], **openapi.OPERATIONS)
    app.add_api_route("/v1/model/history", _model_history, methods=["GET"], **openapi.MODEL_HISTORY)
    app.add_api_route("/v1/reads/views/{study_id}", _of_store(study_routes.views), methods=["GET"], **openapi.VIEWS)


async def _submit(request: Request) -> Response:
    async def answer(running: Lifecycle) -> Response:
        study_routes.require_offered(running.studies)
        study_routes.require_readers(request)
        # Until it is kept, its body lies in memory as a worklist's does.
        with running.worklists.place():
            await study_routes.check_room(running.studies)
            form = await receive_body(request, running.engine, read_form)
            return await study_routes.submit(request, running.studies, form)

    return await guarded(request, answer)


def _of_store(answer: Callable[[Request, Studies], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
    """A route that needs the stored studies alone."""

    async def route(request: Request) -> Response:
        async def answered(running: Lifecycle) -> Response:
            study_routes.require_offered(running.studies)
            return await answer(request, running.studies)

        return await guarded(request, answered)

    return route


def _of_store_and_model(
    answer: Callable[[Request, Studies, Engine], Awaitable[Response]],
) -> Callable[[Request], Awaitable[Response]]:
    """A route that needs the model, too."""

    async def route(request: Request) -> Response:
        async def answered(running: Lifecycle) -> Response:
            study_routes.require_offered(running.studies)
            return await answer(request, running.studies, running.engine)

        return await guarded(request, answered)

    return route


async def _operations(request: Request) -> Response:
    return await guarded(request, lambda running: study_routes.operations(request, running.studies, running.engine))


async def _model_history(request: Request) -> Response:
    return await guarded(request, lambda running: study_routes.model_history(request, running.studies, running.engine))
