"""Log lines: JSON, one object a line, or text for people; with the request's id, and no content of a request.

Whatever logs through the standard library comes out here, other libraries too. Their messages may quote what they were
given, and so may any error's: of the former the template is kept, of the latter the type and the places in the code.
"""

from __future__ import annotations

import hmac
import logging
import re
import secrets
import sys
import traceback
from contextvars import ContextVar
from types import TracebackType
from typing import IO, Any, Literal
from uuid import UUID

import structlog
from structlog.types import EventDict, Processor, WrappedLogger

REQUEST_STATE: ContextVar[dict[str, Any] | None] = ContextVar("request_state", default=None)
"""State of the request that is being answered; `Authentication` writes ``request_id`` into it."""
EXTRA = ("endpoint", "method", "status", "milliseconds")
"""What a line of ours may carry beside its message."""

_OURS = "consilium"
_KEY = secrets.token_bytes(32)
"""Of this process: its lines about one request can be put together, and nothing can be guessed."""
_WITH_HANDLERS = ("bentoml", "uvicorn", "uvicorn.error", "circus")
"""Loggers that BentoML gives handlers of their own."""
_WARNINGS = "py.warnings"
_WARNED = re.compile(r".+?:\d+: \w+")
_LONGEST_FOREIGN = 200
_FRAMES = 6


def configure(log_format: Literal["json", "console"], stream: IO[str] | None = None) -> None:
    """Send all log lines of this process to `stream`, standard output by default."""
    chain: list[Processor] = [
        structlog.stdlib.ExtraAdder(EXTRA),
        _template_alone,
        _request_id,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _places,
    ]
    lines: Processor = (
        structlog.processors.JSONRenderer() if log_format == "json" else structlog.dev.ConsoleRenderer(colors=False)
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=chain, processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, lines]
    )
    handler = logging.StreamHandler(stream or sys.stdout)
    handler.setFormatter(formatter)
    logging.captureWarnings(capture=True)
    logging.getLogger().handlers = [handler]
    for name in _WITH_HANDLERS:
        foreign = logging.getLogger(name)
        foreign.handlers, foreign.propagate = [], True
        foreign.setLevel(logging.WARNING)
    logging.getLogger(_OURS).setLevel(logging.INFO)


def _template_alone(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Of another library's message, the words that stand in its source."""
    record: logging.LogRecord = event["_record"]
    if record.name == _OURS or record.name.startswith(f"{_OURS}."):
        return event
    if record.name == _WARNINGS:
        warned = _WARNED.match(record.getMessage())
        event["event"] = warned[0] if warned else "a warning"
        return event
    # asyncio writes the arguments and the error into the message itself, behind a bracket or on the next line.
    own = re.split(r"[\n(<]", str(record.msg), maxsplit=1)[0]
    event["event"] = own.strip()[:_LONGEST_FOREIGN]
    return event


def _request_id(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    state = REQUEST_STATE.get()
    if state is not None and "request_id" in state:
        event["request_id"] = shown_id(str(state["request_id"]))
    return event


def shown_id(given: str) -> str:
    """Our own names of requests are UUIDs; what a caller thought up may name anybody, so a keyed digest stands for it.

    The audit log does the same, with keys of its own.
    """
    try:
        return str(UUID(given))
    except ValueError:
        return f"keyed:{hmac.digest(_KEY, given.encode(), 'sha256').hex()[:16]}"


def _places(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Of an error, its type and where it came from."""
    given = event.pop("exc_info", None)
    event.pop("stack_info", None)
    error = given[1] if isinstance(given, tuple) else None
    if error is not None:
        event["error"] = type(error).__name__
        event["places"] = places(error.__traceback__)
    return event


def places(trace: TracebackType | None) -> list[str]:
    """The last places of a traceback, innermost first: ``/srv/service/serving/engine.py:120``."""
    return [f"{frame.filename}:{frame.lineno}" for frame in reversed(traceback.extract_tb(trace)[-_FRAMES:])]
