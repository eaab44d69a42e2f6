"""The stored tables of the phantom cohort: states, evidence, values, sites, phrases, ways of writing, reports."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any

import yaml


@cache
def table(name: str) -> Any:
    """The packaged table `name`.yaml, parsed once. Not to be changed by the caller."""
    return yaml.safe_load(files(__name__).joinpath(f"{name}.yaml").read_text(encoding="utf-8"))
