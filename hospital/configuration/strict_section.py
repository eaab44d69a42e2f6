"""Section: a mapping of keys in gateway.yaml; an unknown key is an error that names the nearest one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, model_validator
from pydantic_core import PydanticCustomError

from consilium.configuration.recipe_errors import nearest_key

UNKNOWN_KEY = "unknown_key"
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_SIZES = {"KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}


class StrictSection(BaseModel):
    """Unknown keys are errors, and nothing is changed once it is read."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, given: Any) -> Any:
        if isinstance(given, Mapping):
            for key in given:
                if key not in cls.model_fields:
                    rule = nearest_key(str(key), cls.model_fields)
                    raise PydanticCustomError(UNKNOWN_KEY, "{rule}", {"key": str(key), "rule": rule})
        return given


def _duration(given: Any) -> Any:
    if isinstance(given, timedelta):
        return given
    found = re.fullmatch(r"(\d{1,9})([smhd])", str(given))
    if found is None:
        raise ValueError("must be a number with its unit, such as 60s, 30m, 12h or 30d")
    return timedelta(**{_UNITS[found[2]]: int(found[1])})


def _size(given: Any) -> Any:
    found = re.fullmatch(r"(\d{1,6})\s?([KMGT]B)", str(given))
    if found is None:
        raise ValueError("must be a number with its unit, such as 512MB or 5GB")
    return int(found[1]) * _SIZES[found[2]]


def _beside_the_file(given: Any, info: ValidationInfo) -> Any:
    """Paths are meant from the folder of the file in which they stand."""
    if not isinstance(given, str | Path) or not str(given):
        raise ValueError("must be a path")
    return (info.context or {}).get("folder", Path()) / given


Duration = Annotated[timedelta, BeforeValidator(_duration), Field(gt=timedelta(0))]
"""``60s``, ``30m``, ``12h``, ``30d``."""
Size = Annotated[int, BeforeValidator(_size), Field(gt=0)]
"""Bytes: ``512MB``, ``5GB``."""
FilePath = Annotated[Path, BeforeValidator(_beside_the_file)]
"""From the folder of gateway.yaml."""
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
"""A name that the configuration gives: it stands in rows, logs and metrics."""
