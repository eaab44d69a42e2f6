"""The modalities that a phantom can have, by name: the built-in ones, then those of entry points.

Third parties add one by an entry point of the group ``consilium.phantoms`` that names a `PhantomModality` class.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from types import MappingProxyType

from consilium.domain.errors import InputError
from consilium.modalities.registry import in_order
from consilium.system.installed import by_name, load, of_entry_points
from training.cohorts.phantom.phantom_modality import PhantomModality

GROUP = "consilium.phantoms"
_BUILT_IN = {
    name: f"training.cohorts.phantom.{name}.phantom:{name.capitalize()}Phantom"
    for name in ("image", "text", "observations")
}
DEFAULT_MODALITIES: tuple[str, ...] = tuple(_BUILT_IN)
"""What a phantom has unless asked otherwise. These share one stream of random numbers in this order; every other
modality draws from streams of its own, so that it changes no byte of these."""


@cache
def phantom_modalities() -> Mapping[str, type[PhantomModality]]:
    """Every modality that can be rendered.

    Raises
    ------
    ValueError
        Where two renderers are of the same modality.
    """
    return MappingProxyType(
        by_name([*map(load, _BUILT_IN.values()), *of_entry_points(GROUP)], "phantoms are of the modality")
    )


def checked_modalities(names: Sequence[str]) -> tuple[str, ...]:
    """`names` in the order in which subsets name them.

    Raises
    ------
    InputError
        For a modality that is not installed or that has no renderer, and where there is none.
    """
    able = in_order(phantom_modalities())
    for name in names:
        if name not in able:
            raise InputError("modalities", name, f"must be one of {', '.join(able)}")
    if not names or len(set(names)) != len(names):
        raise InputError("modalities", ", ".join(names), "must name at least one modality, none twice")
    return in_order(names)
