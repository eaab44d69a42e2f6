"""The modalities that a phantom can have, by name: the built-in ones, then those of entry points.

Third parties add one by an entry point of the group ``consilium.phantoms`` that names a `PhantomModality` class.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from types import MappingProxyType

from consilium.domain.errors import InputError
from consilium.modalities.registry import in_order, modalities
from consilium.system.installed import by_name, load, of_entry_points
from training.cohorts.phantom.phantom_modality import PhantomModality
from training.cohorts.phantom.schemes import DEFAULT_MODALITIES, ORDINARY, OTHER_MODALITIES, Scheme

__all__ = ["DEFAULT_MODALITIES", "checked_modalities", "phantom_modalities"]

GROUP = "consilium.phantoms"


@cache
def phantom_modalities(scheme: Scheme = ORDINARY) -> Mapping[str, type[PhantomModality]]:
    """Every modality that can be rendered, the built-in ones as the `scheme` has them.

    Raises
    ------
    ValueError
        Where two renderers are of the same modality.
    """
    built_in = (*scheme.modalities.values(), *OTHER_MODALITIES.values())
    return MappingProxyType(by_name([*map(load, built_in), *of_entry_points(GROUP)], "phantoms are of the modality"))


def checked_modalities(names: Sequence[str]) -> tuple[str, ...]:
    """`names` in the order in which subsets name them.

    Raises
    ------
    InputError
        For a modality that is not installed or that has no renderer, and where there is none.
    """
    able = [name for name in modalities() if name in phantom_modalities()]
    for name in names:
        if name not in able:
            raise InputError("modalities", name, f"must be one of {', '.join(able)}")
    if not names or len(set(names)) != len(names):
        raise InputError("modalities", ", ".join(names), "must name at least one modality, none twice")
    return in_order(names)
