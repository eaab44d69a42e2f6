"""The routes below `/read`: the page's files, who reads it, signing in and out. None needs a token."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import TYPE_CHECKING

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import RedirectResponse, Response

from consilium.api.schemas import SignInRequest, parse_request
from service.audit_log.audit_routes import origin_of
from service.auth.caller import Unauthenticated
from service.http.problems import NotOffered, problem_response
from service.http.small_bodies import read_json
from service.page import own_session_routes, session_routes
from service.page.browsers import browser_of
from service.page.code_flow import CALLBACK, SignInFailed, sign_in_cookie
from service.page.sessions import require_csrf, session_cookie
from service.page.static_files import HEADERS, PageFile, PageFiles

if TYPE_CHECKING:
    from service.page.page import Page

PAGES = ("/read/", "/read/new", "/read/model", "/read/operations", "/read/sessions", "/read/login")
FILE_METHODS = ("GET", "HEAD")
CLIENT_GONE = 499
"""What the access log shows where nobody waits for the answer any more; nginx's number."""
Handler = Callable[[Request], Awaitable[Response]]
_MOST_BYTES = 4096
_PRIVATE = {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer", "X-Content-Type-Options": "nosniff"}


def add_routes(app: FastAPI) -> None:
    """Add the page's routes and those of its sessions to `app`; `app.state.page` is None while it is not served."""
    app.state.page = None
    for path, answers, methods in _ROUTES:
        app.add_api_route(path, _with_problems(answers), methods=list(methods), include_in_schema=False)
    of_sessions = "/v1/sessions/{session_id}"
    add = app.add_api_route
    add("/v1/sessions", _with_problems(session_routes.list_sessions), methods=["GET"], **session_routes.SESSIONS)
    add(of_sessions, _with_problems(session_routes.revoke_session), methods=["DELETE"], **session_routes.REVOKE)
    add("/v1/sign-ins", _with_problems(session_routes.list_sign_ins), methods=["GET"], **session_routes.SIGN_INS)


def _with_problems(answer: Handler) -> Handler:
    """`answer`, or the problem that kept it from being made."""

    async def answered(request: Request) -> Response:
        try:
            return await answer(request)
        except ClientDisconnect:
            return Response(status_code=CLIENT_GONE)
        except Exception as error:  # noqa: BLE001 - every error becomes a problem document
            return problem_response(error)

    return answered


def page_of(request: Request) -> Page:
    """The page, where it is served."""
    page: Page | None = request.app.state.page
    if page is None:
        raise HTTPException(HTTPStatus.NOT_FOUND, "The reading page is not served here: see CONSILIUM_STUDIES.")
    return page


def _files_of(request: Request) -> PageFiles:
    files = page_of(request).files
    if files is None:
        raise NotOffered("The page was not built into this installation: see `make web`.")
    return files


async def _index(request: Request) -> Response:
    return _files_of(request).index.response(request.headers)


async def _deeper(request: Request) -> Response:
    return _files_of(request).deeper.response(request.headers)


async def _asset(request: Request) -> Response:
    return _sent(request, f"assets/{request.path_params['name']}", _files_of(request).deeper)


async def _file(request: Request) -> Response:
    return _sent(request, request.path_params["name"], _files_of(request).index)


def _sent(request: Request, name: str, document: PageFile) -> Response:
    """The file `name`; to a person in a browser, where there is none, the `document` that says so in their language."""
    found = _files_of(request).named(name)
    if found is not None:
        return found.response(request.headers)
    if "text/html" not in request.headers.get("accept", ""):
        raise HTTPException(HTTPStatus.NOT_FOUND, "The page has no such file.")
    return document.response(request.headers, HTTPStatus.NOT_FOUND)


async def _lost(request: Request) -> Response:
    return _sent(request, "", _files_of(request).deeper)


async def _session(request: Request) -> Response:
    page = page_of(request)
    reader = await page.reader(session_cookie(page.settings).read(request.headers))
    return Response(reader.model_dump_json(), media_type="application/json", headers=_PRIVATE)


async def _sign_in(request: Request) -> Response:
    """Exchange an API key for a session. The browser keeps the session's cookie, and the page nothing."""
    page = page_of(request)
    if page.sessions is None:
        raise HTTPException(HTTPStatus.CONFLICT, "Nobody is authenticated here, so that nobody can sign in.")
    page.count_attempt(request)
    asked = parse_request(SignInRequest, await read_json(request, _MOST_BYTES, page.settings.receive_timeout_s))
    request_id = origin_of(request).request_id
    try:
        identity = page.identity(asked.api_key.strip())
    except Unauthenticated:
        await page.sessions.refused("api_key", request_id)
        raise HTTPException(HTTPStatus.UNAUTHORIZED, "This API key is not valid.") from None
    cookie = session_cookie(page.settings)
    value = await page.sessions.open(identity, cookie.read(request.headers), request_id, _browser(request))
    reader = page.answer(await page.sessions.signed_in(value))
    response = Response(reader.model_dump_json(), media_type="application/json", headers=_PRIVATE)
    cookie.put(response, value)
    return response


async def _sign_out(request: Request) -> Response:
    page = page_of(request)
    cookie = session_cookie(page.settings)
    response = Response(status_code=HTTPStatus.NO_CONTENT, headers=_PRIVATE)
    value = cookie.read(request.headers)
    if page.sessions is not None and value is not None:
        reader = await page.reader(value)
        if reader.csrf is not None:
            require_csrf(request.headers, reader.csrf)
            await page.sessions.sign_out(value, origin_of(request).request_id)
    cookie.clear(response)
    return response


async def _start(request: Request) -> Response:
    """Send the browser to the issuer."""
    page = page_of(request)
    if page.flow is None:
        raise HTTPException(HTTPStatus.NOT_FOUND, "Nobody signs in at an issuer here: see CONSILIUM_OIDC_CLIENT_ID.")
    page.count_attempt(request)
    try:
        place, held = await page.flow.start(request.query_params.get("next", ""))
    except SignInFailed as failed:
        return _away("../login?problem=" + failed.reason)
    response = _away(place)
    sign_in_cookie(page.settings).put(response, held, page.flow.patience_s)
    return response


async def _callback(request: Request) -> Response:
    """Take the issuer's answer, which the browser brings, and begin a session."""
    page = page_of(request)
    if page.flow is None or page.sessions is None:
        raise HTTPException(HTTPStatus.NOT_FOUND, "Nobody signs in at an issuer here: see CONSILIUM_OIDC_CLIENT_ID.")
    page.count_attempt(request)
    held, cookie = sign_in_cookie(page.settings), session_cookie(page.settings)
    request_id = origin_of(request).request_id
    try:
        identity, place = await page.flow.finish(request.query_params, held.read(request.headers))
    except SignInFailed as failed:
        await page.sessions.refused("oidc", request_id)
        response = _away("../login?problem=" + failed.reason)
    else:
        value = await page.sessions.open(identity, cookie.read(request.headers), request_id, _browser(request))
        response = _away(f"../{place}")
        cookie.put(response, value)
    held.clear(response)
    return response


def _browser(request: Request) -> str | None:
    return browser_of(request.headers.get("user-agent", ""))


def _away(place: str) -> Response:
    return RedirectResponse(place, HTTPStatus.SEE_OTHER, headers=HEADERS | _PRIVATE)


_ROUTES: tuple[tuple[str, Handler, tuple[str, ...]], ...] = (
    ("/read/session", _session, ("GET",)),
    ("/read/session", _sign_in, ("POST",)),
    ("/read/session", _sign_out, ("DELETE",)),
    *own_session_routes.ROUTES,
    ("/read/oidc/start", _start, ("GET",)),
    (CALLBACK, _callback, ("GET",)),
    *((path, _index, FILE_METHODS) for path in PAGES),
    ("/read/studies/{study_id}", _deeper, FILE_METHODS),
    ("/read/assets/{name}", _asset, FILE_METHODS),
    ("/read/{name}", _file, FILE_METHODS),
    ("/read/{name}/{below}", _lost, FILE_METHODS),
)
