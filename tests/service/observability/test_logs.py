from __future__ import annotations

import asyncio
import io
import json
import logging
import warnings
from collections.abc import Iterator
from typing import Any

import pytest

from service.observability import logs
from service.observability.logs import REQUEST_STATE

SECRET = "Jane Roe 1950-01-01"
ID = "3a4f6f0e-7d0e-4a43-8f0a-2f1de0a3c1b7"


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """The handlers of this process as they were."""
    names = [None, "bentoml", "uvicorn", "uvicorn.error", "circus", "py.warnings", "consilium", "pydicom"]
    kept = [(logger := logging.getLogger(name), logger.handlers, logger.propagate, logger.level) for name in names]
    logging.getLogger("pydicom").setLevel(logging.NOTSET)  # a gateway of this process silences it
    yield
    logging.captureWarnings(capture=False)
    for logger, handlers, propagate, level in kept:
        logger.handlers, logger.propagate = handlers, propagate
        logger.setLevel(level)


@pytest.fixture
def stream() -> io.StringIO:
    stream = io.StringIO()
    logs.configure("json", stream)
    return stream


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_is_an_object_with_time_level_logger_and_request(stream: io.StringIO) -> None:
    token = REQUEST_STATE.set({"request_id": ID})
    fields = {"endpoint": "/v1/diagnose", "method": "POST", "status": 200, "milliseconds": 12.5}
    logging.getLogger("consilium.access").info("request", extra=fields | {"note": SECRET})
    REQUEST_STATE.reset(token)
    logging.getLogger("consilium.service").warning("%s is refused", "version 3")
    first, second = lines(stream)
    assert first.pop("timestamp").endswith("Z")
    assert first == {
        "event": "request",
        "level": "info",
        "logger": "consilium.access",
        "request_id": ID,
        "endpoint": "/v1/diagnose",
        "method": "POST",
        "status": 200,
        "milliseconds": 12.5,
    }
    assert (second["event"], second["level"]) == ("version 3 is refused", "warning")
    assert "request_id" not in second


def test_a_request_without_an_id_is_logged_without_one(stream: io.StringIO) -> None:
    token = REQUEST_STATE.set({})
    logging.getLogger("consilium").info("before the door")
    REQUEST_STATE.reset(token)
    assert "request_id" not in lines(stream)[0]


def test_a_name_that_the_caller_gave_its_request_is_not_shown(stream: io.StringIO) -> None:
    for name in (SECRET, SECRET, "another"):
        token = REQUEST_STATE.set({"request_id": name})
        logging.getLogger("consilium").info("asked")
        REQUEST_STATE.reset(token)
    first, again, other = (line["request_id"] for line in lines(stream))
    assert first == again != other
    assert "Jane" not in stream.getvalue()


def test_an_error_is_logged_by_type_and_places(stream: io.StringIO) -> None:
    def breaks() -> None:
        raise ValueError(SECRET)

    try:
        try:
            breaks()
        except ValueError as error:
            raise RuntimeError(SECRET) from error
    except RuntimeError:
        logging.getLogger("consilium.service").exception("it broke")
    (line,) = lines(stream)
    assert (line["event"], line["error"]) == ("it broke", "RuntimeError")
    assert line["places"][0].startswith(__file__)
    assert SECRET not in stream.getvalue()


@pytest.mark.parametrize("name", ["bentoml.access", "uvicorn.error", "circus", "pydicom", "elsewhere"])
def test_messages_of_other_libraries_are_logged_without_their_arguments(stream: io.StringIO, name: str) -> None:
    logging.getLogger(name).error("cannot read %s of %d", SECRET, 7)
    assert [line["event"] for line in lines(stream)] == ["cannot read %s of %d"]
    assert stream.getvalue().count("\n") == 1, "once, through our own handler"


def test_a_warning_is_logged_by_place_and_category(stream: io.StringIO) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logs.configure("json", stream)
        warnings.warn(f"Invalid value for VR PN: {SECRET}", UserWarning, stacklevel=1)
    # Objects of other tests that are collected meanwhile may warn, too.
    assert [
        line["event"].endswith(": UserWarning") for line in lines(stream) if line["event"].startswith(__file__)
    ] == [True]
    assert SECRET not in stream.getvalue()


def test_what_asyncio_says_of_a_task_that_nobody_awaits_holds_no_values(stream: io.StringIO) -> None:
    async def breaks() -> None:
        raise ValueError(SECRET)

    async def go() -> None:
        loop = asyncio.get_running_loop()
        task = asyncio.create_task(breaks())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        del task
        loop.call_soon(int, SECRET)
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    asyncio.run(go())
    events = {line["event"]: line for line in lines(stream)}
    assert set(events) == {"Task exception was never retrieved", "Exception in callback int"}
    assert {line["error"] for line in events.values()} == {"ValueError"}
    assert SECRET not in stream.getvalue()
    assert "Jane" not in stream.getvalue()


def test_lines_for_people_hold_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    stream = io.StringIO()
    logs.configure("console", stream)
    logging.getLogger("consilium.access").info("request", extra={"endpoint": "/v1/model", "status": 200})
    output = stream.getvalue()
    assert "request" in output
    assert "endpoint=/v1/model" in output
    assert not output.startswith("{")
    assert capsys.readouterr().out == ""
