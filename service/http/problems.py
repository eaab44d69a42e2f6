"""Errors become `application/problem+json` (RFC 9457).

An error goes back to the caller with the value it was about; the log gets its field and rule only, because the value
may be a patient's. Nothing here may raise.
"""

from __future__ import annotations

import logging
import re
import traceback
import uuid
from http import HTTPStatus

from starlette.exceptions import HTTPException
from starlette.responses import Response

from consilium.api.schemas import ProblemAnswer
from consilium.domain.errors import ConsiliumError, InputError

MEDIA_TYPE = "application/problem+json"
logger = logging.getLogger("consilium.service")


class Unavailable(ConsiliumError):
    """The service cannot take this request now; the caller may try again."""

    status = HTTPStatus.SERVICE_UNAVAILABLE

    def __init__(self, reason: str, retry_after_s: int) -> None:
        super().__init__(reason)
        self.retry_after_s = retry_after_s


class Overdue(ConsiliumError):
    """The request or its answer took longer than it may."""

    def __init__(self, reason: str, status: HTTPStatus) -> None:
        super().__init__(reason)
        self.status = status


class NotAnswered(ConsiliumError):
    """The job of this study ended before the study was answered."""

    def __init__(self, *, cancelled: bool) -> None:
        super().__init__(
            "The job was cancelled." if cancelled else "The service stopped too often while it answered this job."
        )
        self.status = HTTPStatus.CONFLICT if cancelled else HTTPStatus.INTERNAL_SERVER_ERROR


class NotOffered(ConsiliumError):
    """The model that answers has not what was asked for."""

    status = HTTPStatus.NOT_FOUND


class NotYetReadable(ConsiliumError):
    """The answer to a stored study is not there, or hidden from this caller until he has read the study himself."""

    status = HTTPStatus.CONFLICT
    kind = "not-yet-readable"


class NotFromArchive(ConsiliumError):
    """The archive did not give what was asked for. Names no study.

    Parameters
    ----------
    kind : str
        Which of the problems it is: ``other-pixels``.
    """

    def __init__(self, kind: str, reason: str, status: HTTPStatus) -> None:
        super().__init__(reason)
        self.kind, self.status = kind, status


def problem_response(error: BaseException) -> Response:
    """The answer to a request that ended in `error`, which is logged."""
    document, headers = problem(error)
    body = document.model_dump_json(exclude_none=True)
    return Response(body, status_code=document.status, media_type=MEDIA_TYPE, headers=headers)


def problem(error: BaseException) -> tuple[ProblemAnswer, dict[str, str]]:
    """The problem document of `error`, which is logged, and the headers that belong to it."""
    instance = uuid.uuid4().urn
    status, detail, headers = _described(error)
    broken = error if isinstance(error, InputError) else None
    document = ProblemAnswer(
        type=f"urn:consilium:problem:{_kind(error, status)}",
        title=status.phrase,
        status=status.value,
        detail=_printable(detail),
        instance=instance,
        field=_printable(broken.field) if broken else None,
        value=_printable(broken.shown_value) if broken else None,
        rule=_printable(broken.rule) if broken else None,
    )
    _log(error, status, instance)
    release_traceback(error)
    return document, headers


def _described(error: BaseException) -> tuple[HTTPStatus, str, dict[str, str]]:
    if isinstance(error, InputError):
        status = HTTPStatus(error.status)
        # The rest of a body that is too large is not worth reading.
        return status, str(error), {"Connection": "close"} if status is HTTPStatus.REQUEST_ENTITY_TOO_LARGE else {}
    if isinstance(error, Unavailable):
        return error.status, str(error), {"Retry-After": str(error.retry_after_s)}
    if isinstance(error, Overdue):
        return error.status, str(error), {"Connection": "close"}
    if isinstance(error, NotOffered | NotAnswered | NotYetReadable | NotFromArchive):
        return error.status, str(error), {}
    if isinstance(error, HTTPException):
        return HTTPStatus(error.status_code), error.detail, dict(error.headers or {})
    return HTTPStatus.INTERNAL_SERVER_ERROR, "Internal error: the request itself is not at fault.", {}


def _log(error: BaseException, status: HTTPStatus, instance: str) -> None:
    if isinstance(error, InputError):
        logger.info("%d %s: %s %s", status, instance, _printable(error.field), _printable(error.rule))
    elif status is HTTPStatus.INTERNAL_SERVER_ERROR:
        # The message of a foreign error may quote the input: type and place are enough to find it.
        frames = traceback.extract_tb(error.__traceback__)[-4:]
        where = " < ".join(f"{frame.filename}:{frame.lineno}" for frame in reversed(frames))
        logger.error("%d %s: %s at %s", status, instance, type(error).__name__, where)
    else:
        logger.warning("%d %s: %s", status, instance, type(error).__name__)


def release_traceback(error: BaseException | None) -> None:
    """Forget where `error` came from, and what it came from.

    The frames of its traceback hold what was received, and a future that one of them waited for holds the error: whole
    bodies would stay in memory until the garbage collector comes, which bytes alone do not call.
    """
    while error is not None:
        error.__traceback__ = None
        error = error.__cause__ or error.__context__


def _kind(error: BaseException, status: HTTPStatus) -> str:
    """What the error is called in its type: ``unreadable-image``, ``service-unavailable``."""
    kind = getattr(error, "kind", None)
    if isinstance(kind, str):
        return kind
    name = re.sub(r"(?<!^)(?=[A-Z])", "-", type(error).__name__) if isinstance(error, InputError) else status.phrase
    return name.lower().replace(" ", "-")


def _printable(text: str) -> str:
    """`text` without lone surrogates, which no JSON can carry."""
    return text.encode("utf-8", "backslashreplace").decode()
