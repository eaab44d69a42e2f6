"""What an installed distribution needs, all the way down, pinned as it is installed.

Read from the metadata of the installed packages, so that it needs neither a network nor a source checkout.
"""

from __future__ import annotations

from importlib.metadata import distribution

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

_INSTALLER = "pip"
"""Whoever installs brings it along; pinned, it would replace itself at work."""


def closure(name: str, *extras: str) -> dict[str, str]:
    """Canonical name → public version of every distribution that ``name[extras]`` needs, itself and pip left out.

    Raises
    ------
    importlib.metadata.PackageNotFoundError
        Where one of them is not installed.
    """
    pinned: dict[str, str] = {}
    seen: set[tuple[str, str]] = set()
    waiting = [(name, extra) for extra in ("", *extras)]
    while waiting:
        current, extra = waiting.pop()
        if (current, extra) in seen or current == _INSTALLER:
            continue
        seen.add((current, extra))
        found = distribution(current)
        pinned[current] = Version(found.version).public
        for line in found.requires or ():
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
                needed = canonicalize_name(requirement.name)
                waiting += [(needed, needed_extra) for needed_extra in ("", *requirement.extras)]
    del pinned[name]
    return pinned


def requirements(name: str, *extras: str) -> str:
    """`closure` as the lines of a requirements file."""
    return "".join(f"{package}=={version}\n" for package, version in sorted(closure(name, *extras).items()))
