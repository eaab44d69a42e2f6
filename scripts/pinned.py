"""Print what the distribution with an extra needs, all the way down, pinned: ``python scripts/pinned.py serve``.

Reads the metadata of the installed packages, so it needs no network. Without an argument: the bare distribution.
"""

from __future__ import annotations

import sys
from importlib.metadata import distribution

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version


def closure(name: str, extras: frozenset[str]) -> dict[str, str]:
    """Canonical name → public version of every distribution that ``name[extras]`` needs, itself left out."""
    pinned: dict[str, str] = {}
    seen: set[tuple[str, str]] = set()
    waiting = [(name, extra) for extra in ("", *extras)]
    while waiting:
        current, extra = waiting.pop()
        if (current, extra) in seen:
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


if __name__ == "__main__":
    for package, version in sorted(closure("consilium", frozenset(sys.argv[1:])).items()):
        print(f"{package}=={version}")
