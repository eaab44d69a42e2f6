"""The installed modalities by name: the built-in ones, then those of entry points in the order of their names.

Third parties add one by an entry point of the group ``consilium.modalities`` that names a `Modality`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from importlib.metadata import entry_points
from itertools import combinations
from types import MappingProxyType

from consilium.domain.errors import InputError
from consilium.modalities.modality import Modality, load

GROUP = "consilium.modalities"
_BUILT_IN = (
    "consilium.modalities.image:MODALITY",
    "consilium.modalities.text:MODALITY",
    "consilium.modalities.observations:MODALITY",
)


@cache
def modalities() -> Mapping[str, Modality]:
    """Every installed modality by name, in the order in which subsets and tables name them.

    Raises
    ------
    ValueError
        Where two have the same name.
    """
    found: dict[str, Modality] = {}
    others = sorted(entry_points(group=GROUP), key=lambda point: point.name)
    for modality in [*map(load, _BUILT_IN), *(point.load() for point in others)]:
        if modality.name in found:
            raise ValueError(f"two modalities are called {modality.name!r}")
        found[modality.name] = modality
    return MappingProxyType(found)


def modality_names() -> tuple[str, ...]:
    """The names of `modalities`, in order."""
    return tuple(modalities())


def find_modality(name: str, field: str = "modality") -> Modality:
    """The modality called `name`.

    Raises
    ------
    InputError
        Where none is installed under that name.
    """
    try:
        return modalities()[name]
    except KeyError:
        raise InputError(field, name, f"must be one of {', '.join(modalities())}") from None


def in_order(some: Iterable[str]) -> tuple[str, ...]:
    """`some` names, each once, in the order of `modalities`."""
    chosen = set(some)
    return tuple(name for name in modalities() if name in chosen)


def nonempty_subsets(some: Iterable[str]) -> list[frozenset[str]]:
    """Every non-empty subset of the modalities `some`, smallest first, in the order of `modalities`."""
    present = in_order(some)
    return [frozenset(chosen) for size in range(1, len(present) + 1) for chosen in combinations(present, size)]


def subset_key(subset: Iterable[str]) -> str:
    """Name of a modality subset in tables and files: ``image+observations``; the empty subset is ``none``."""
    return "+".join(in_order(subset)) or "none"
