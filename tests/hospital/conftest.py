"""What tests of the gateway share."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="module", autouse=True)
def library_loggers_restored() -> Iterator[None]:
    """The gateway silences pynetdicom and pydicom for its process; other tests read what they log."""
    loggers = [logging.getLogger(name) for name in ("pynetdicom", "pydicom")]
    levels = [logger.level for logger in loggers]
    yield
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)
