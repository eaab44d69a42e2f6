"""The identifiers of a Patient resource: system and value, by which the gateway knows whom it is about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

PatientIdentifiers = Sequence[tuple[str, str]]
"""System and value of each."""
_MOST = 50


def current_identifiers(resource: Mapping[str, object]) -> list[tuple[str, str]]:
    """Those of a resource that are not marked as old."""
    given = resource.get("identifier")
    found = given[:_MOST] if isinstance(given, list) else []
    return [(one["system"], one["value"]) for one in found if _is_current(one)]


def _is_current(identifier: object) -> bool:
    return (
        isinstance(identifier, dict)
        and all(isinstance(identifier.get(key), str) and identifier[key] for key in ("system", "value"))
        and identifier.get("use") != "old"
    )
