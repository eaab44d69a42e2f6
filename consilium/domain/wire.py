"""What values on the wire have in common: every key is known, no figure is infinite or NaN, fields are described."""

from __future__ import annotations

from collections.abc import Hashable
from functools import cache
from typing import Annotated, Any, ClassVar, Self, cast

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

STRICT = ConfigDict(
    extra="forbid",
    frozen=True,
    allow_inf_nan=False,
    use_attribute_docstrings=True,
    json_schema_serialization_defaults_required=True,
)

Share = Annotated[float, Field(ge=0, le=1)]
"""A probability, or a share of something."""


class Wire(BaseModel):
    """A value that cannot be changed, without unknown keys, infinities or NaN."""

    model_config = STRICT


class WireValue:
    """Base of the frozen dataclasses that go over the wire and into artifacts as they are.

    The docstring below a field is its description in the service's OpenAPI document.
    """

    __slots__ = ()
    __dataclass_fields__: ClassVar[dict[str, Any]]
    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    def to_json(self) -> dict[str, Any]:
        """The same as JSON's types."""
        found: dict[str, Any] = _adapter(cast(Hashable, type(self))).dump_python(self, mode="json")
        return found

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """What `to_json` gave.

        Raises
        ------
        ValueError
            Where a key is missing or unknown, or a value of another kind.
        """
        missing = {name for name in cls.__dataclass_fields__ if name not in data}
        if missing:
            raise ValueError(f"{cls.__name__} lacks {', '.join(sorted(missing))}")
        found: Self = _adapter(cast(Hashable, cls)).validate_python(data)
        return found


@cache
def _adapter(kind: Hashable) -> TypeAdapter[Any]:
    return TypeAdapter(cast(Any, kind))
