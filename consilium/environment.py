"""Variables of the environment that are no settings of the service; those are the fields of `service.settings`."""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path


class Variable(StrEnum):
    """Who reads a variable takes its name from here, so that the service knows which names mean nothing."""

    HOME = "CONSILIUM_HOME"
    """The folder of what is made: the record, keys, copies of models, caches."""
    TOKEN = "CONSILIUM_TOKEN"  # noqa: S105 - the name of it
    """With which the command asks a service."""
    DATA = "CONSILIUM_DATA"
    """The folder of cohorts that tests read."""


def home_folder() -> Path:
    """``CONSILIUM_HOME``, or ``var`` below the working folder."""
    return Path(os.environ.get(Variable.HOME) or "var").absolute()
