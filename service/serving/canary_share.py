"""Which share of the patients a canary answers, where the registry says so."""

from __future__ import annotations

from consilium.artifacts.model_registry import describe
from consilium.domain.errors import RegistryError

CANARY_SHARE = "canary_share"
"""Tag of a version."""


def read_share(source: str) -> float | None:
    """Of the version behind ``models:/name@alias``; None where the registry does not say.

    Raises
    ------
    RegistryError
        Where there is no such version, or what is said is no share.
    """
    name, _, alias = source.removeprefix("models:/").partition("@")
    given = describe(name, f"@{alias}").tags.get(CANARY_SHARE)
    try:
        share = None if given is None else float(given)
    except ValueError:
        share = -1.0
    if share is None or 0 <= share <= 1:
        return share
    raise RegistryError(f"{source}: got {CANARY_SHARE} {given!r}, must be a number from 0 to 1")
