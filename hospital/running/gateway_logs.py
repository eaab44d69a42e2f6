"""Log lines of the gateway: JSON, one object a line, without anything of a patient.

Our own modules log what may be logged. Other libraries' messages may quote what they were given, and so may any
error's: of the former the template is kept, of the latter the type and the places in the code.
"""

from __future__ import annotations

import logging
import re
import sys
import traceback
from typing import IO, Any

import structlog
from structlog.types import EventDict, Processor, WrappedLogger

_OURS = ("consilium", "hospital")
_LONGEST_FOREIGN = 200
_PLACES = 6


def configure(stream: IO[str] | None = None) -> None:
    """Send all log lines of this process to `stream`, standard output by default."""
    shared: list[Processor] = [
        _template_alone,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _places,
    ]
    last: list[Processor] = [
        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
        structlog.processors.JSONRenderer(),
    ]
    handler = logging.StreamHandler(stream or sys.stdout)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=last))
    logging.captureWarnings(capture=True)
    logging.getLogger().handlers = [handler]
    for name in _OURS:
        logging.getLogger(name).setLevel(logging.INFO)
    structlog.configure(
        processors=[*shared[1:], structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )


def _template_alone(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Of another library's message, the words that stand in its source."""
    record: logging.LogRecord = event["_record"]
    if record.name.partition(".")[0] in _OURS:
        return event
    # asyncio writes the arguments and the error into the message itself, behind a bracket or on the next line.
    own = re.split(r"[\n(<]", str(record.msg), maxsplit=1)[0]
    event["event"] = own.strip()[:_LONGEST_FOREIGN]
    return event


def _places(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Of an error, its type and the last places that it came from, innermost first."""
    given: Any = event.pop("exc_info", None)
    event.pop("stack_info", None)
    error = sys.exc_info()[1] if given is True else given[1] if isinstance(given, tuple) else given
    if isinstance(error, BaseException):
        frames = traceback.extract_tb(error.__traceback__)[-_PLACES:]
        event["error"] = type(error).__name__
        event["places"] = [f"{frame.filename}:{frame.lineno}" for frame in reversed(frames)]
    return event
