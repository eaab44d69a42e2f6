"""Waiting for a model store that gives no answer: a training of hours must not end because a server restarts."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from contextlib import suppress
from typing import ParamSpec, TypeVar

from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from consilium.artifacts.embedded_store import sqlite_file
from consilium.artifacts.mlflow_store import store_errors, tracking_uri
from consilium.domain.errors import InputError, RegistryUnreachable
from consilium.system.environment import Variable

_log = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R")

PATIENCE_S = 600.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 15.0
_BUSY = "locked"
"""In SQLite's error where another process is writing the file; no other of its errors passes."""
_FINAL = frozenset(
    {
        "RESOURCE_DOES_NOT_EXIST",
        "RESOURCE_ALREADY_EXISTS",
        "INVALID_PARAMETER_VALUE",
        "INVALID_STATE",
        "BAD_REQUEST",
        "MALFORMED_REQUEST",
        "PERMISSION_DENIED",
        "UNAUTHENTICATED",
        "ENDPOINT_NOT_FOUND",
        "NOT_IMPLEMENTED",
        "FEATURE_DISABLED",
    }
)
"""Answers of a server that is there."""
# Ours is the longer patience, and logs that it waits.
_BRIEFLY = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "60"}


def patience_s() -> float:
    """Seconds that a training waits for its store: ``CONSILIUM_STORE_PATIENCE_S``, or ten minutes.

    Raises
    ------
    InputError
        It is no number of seconds.
    """
    given = os.environ.get(Variable.STORE_PATIENCE, "")
    try:
        seconds = float(given) if given else PATIENCE_S
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise InputError(Variable.STORE_PATIENCE, given, "must be a number of seconds, at least 0")
    return seconds


def patiently(function: Callable[P, R], *arguments: P.args, **options: P.kwargs) -> R:
    """``function(*arguments, **options)``, asked again as long as the store gives no answer.

    What is asked must bear being done twice: the answer to the first time may have been lost.

    Raises
    ------
    RegistryUnreachable
        The store gave no answer for `patience_s`, or one that waiting does not change.
    """
    for name, value in _BRIEFLY.items():
        os.environ.setdefault(name, value)
    since, pause, patience = None, _FIRST_PAUSE_S, patience_s()
    while True:
        try:
            with store_errors():
                answer = function(*arguments, **options)
        except RegistryUnreachable as error:
            since = time.monotonic() if since is None else since
            left = patience - (time.monotonic() - since)
            if not may_pass(error) or left <= 0:
                raise
            if pause == _FIRST_PAUSE_S:
                _log.warning("%s; waiting for it, for %.0f seconds at most", error, left)
            time.sleep(min(pause, left))
            pause = min(2 * pause, _LONGEST_PAUSE_S)
        else:
            if since is not None:
                _log.warning("the model store answers again, after %.0f seconds", time.monotonic() - since)
            return answer


def may_pass(error: RegistryUnreachable) -> bool:
    """Whether waiting may help: the store is away or busy, in place of refusing what it was asked."""
    cause = error.__cause__
    if sqlite_file(tracking_uri()) is not None:
        return isinstance(cause, MlflowException | SQLAlchemyError) and _BUSY in str(cause)
    if isinstance(cause, MlflowException):
        return cause.error_code not in _FINAL
    if isinstance(cause, SQLAlchemyError | ConnectionError | TimeoutError):
        return True
    # The errors of the library that asks are OSErrors without a number; one with a number is of this machine.
    status = getattr(getattr(cause, "response", None), "status_code", None)
    return isinstance(cause, OSError) and cause.errno is None and (status is None or status == 429 or status >= 500)


def is_missing(error: RegistryUnreachable) -> bool:
    """Whether the store answers that it has no such thing."""
    cause = error.__cause__
    return isinstance(cause, MlflowException) and cause.error_code == "RESOURCE_DOES_NOT_EXIST"


def at_once(function: Callable[[], object]) -> bool:
    """Whether ``function()`` was done; a store that gives no answer now is not waited for."""
    with suppress(RegistryUnreachable), store_errors():
        function()
        return True
    return False
