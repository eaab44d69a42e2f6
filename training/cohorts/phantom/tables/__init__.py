"""The stored tables of the phantom cohort: states, evidence, values, sites, phrases, ways of writing, reports.

Those of the interaction design, where it has its own, are in `interaction/`.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any

import yaml


@cache
def table(name: str) -> Any:
    """The packaged table `name`.yaml (a folder's: ``interaction/states``), parsed once; not to be changed."""
    return yaml.safe_load(files(__name__).joinpath(f"{name}.yaml").read_text(encoding="utf-8"))
