"""Log lines are JSON and name nobody: neither from our own errors nor from what libraries say."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from hospital.running import gateway_logs

SECRET = "MRN-4711"


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    before, level = root.handlers, root.level
    made = io.StringIO()
    gateway_logs.configure(made)
    yield made
    root.handlers = before
    root.setLevel(level)
    structlog.reset_defaults()
    logging.captureWarnings(capture=False)


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_our_own_lines_are_written_as_they_are(stream: io.StringIO) -> None:
    logging.getLogger("consilium.gateway").info("listening: %s", "hl7 port")
    structlog.get_logger("hospital.hl7").warning("message failed", source="lis")

    first, second = lines(stream)
    assert (first["event"], first["level"], first["logger"]) == ("listening: hl7 port", "info", "consilium.gateway")
    assert (second["event"], second["source"], second["logger"]) == ("message failed", "lis", "hospital.hl7")
    assert first["timestamp"].endswith("Z")


def test_of_an_error_the_type_and_the_places_are_written_and_not_what_it_says(stream: io.StringIO) -> None:
    for logger in (logging.getLogger("consilium.gateway"), structlog.get_logger("hospital.dicom")):
        try:
            raise KeyError(SECRET)
        except KeyError:
            logger.exception("a step of a study failed")

    assert SECRET not in stream.getvalue()
    for line in lines(stream):
        assert line["error"] == "KeyError"
        assert line["places"][0].startswith(__file__)


def test_of_what_libraries_say_the_template_alone_is_written(stream: io.StringIO) -> None:
    logging.getLogger("library.acse").warning("rejected %s (%s)", SECRET, "a reason")
    logging.getLogger("asyncio").error(f"Task exception was never retrieved\nfuture: <Task {SECRET}>")
    logging.getLogger("library").info("nothing of interest")

    assert [line["event"] for line in lines(stream)] == ["rejected %s", "Task exception was never retrieved"]
    assert SECRET not in stream.getvalue()
