"""What is installed: the project's own things, named by reference, and those of third parties' entry points."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any


def load(reference: str) -> Any:
    """The object that ``package.module:name`` names; its module is imported now."""
    module, _, name = reference.partition(":")
    return getattr(import_module(module), name)


def of_entry_points(group: str) -> list[Any]:
    """What the entry points of `group` name, in the order of their names."""
    return [point.load() for point in sorted(entry_points(group=group), key=lambda point: point.name)]


def by_name(some: Iterable[Any], clash: str) -> dict[str, Any]:
    """`some` things that have a ``name``, by it and in order.

    Raises
    ------
    ValueError
        Where two have the same name: "two", what `clash` says of them, and the name.
    """
    found: dict[str, Any] = {}
    for one in some:
        if one.name in found:
            raise ValueError(f"two {clash} {one.name!r}")
        found[one.name] = one
    return found
