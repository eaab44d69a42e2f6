"""Schemes: what the states of a phantom are and how they show in each built-in modality, by name.

The ordinary one is made so that each modality says something of every finding and two say more; the findings of the
interaction one mean nothing before another modality is known (`training.cohorts.phantom.interaction`). The findings are
the same in all, so that a modality of a third party is drawn in any.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from consilium.domain.errors import InputError
from training.cohorts.phantom.state import StateTable, load_states

DEFAULT_MODALITIES: tuple[str, ...] = ("image", "text", "observations")
"""What a phantom has unless asked otherwise. These share one stream of random numbers in this order; every other
modality draws from streams of its own, so that it changes no byte of these."""
OTHER_MODALITIES: Mapping[str, str] = MappingProxyType(
    {
        "ecg": "training.cohorts.phantom.ecg.phantom:EcgPhantom",
        "volume": "training.cohorts.phantom.volume.phantom:VolumePhantom",
        "audio": "training.cohorts.phantom.audio.phantom:AudioPhantom",
    }
)
"""The `PhantomModality` of each other built-in modality, the same in every scheme."""


@dataclass(frozen=True, slots=True, eq=False)
class Scheme:
    """One way in which findings show.

    Attributes
    ----------
    name : str
    state_table : str
        Name of the stored table of its states.
    modalities : mapping of modality to reference
        The `PhantomModality` of each of `DEFAULT_MODALITIES`.
    """

    name: str
    state_table: str
    modalities: Mapping[str, str]

    def states(self, prevalence_odds: Mapping[str, float] | None = None) -> StateTable:
        """Its states; see `load_states`."""
        return load_states(prevalence_odds, self.state_table)


ORDINARY = Scheme(
    "ordinary",
    "states",
    MappingProxyType(
        {name: f"training.cohorts.phantom.{name}.phantom:{name.capitalize()}Phantom" for name in DEFAULT_MODALITIES}
    ),
)
INTERACTION = Scheme(
    "interaction",
    "interaction/states",
    MappingProxyType(
        {name: f"training.cohorts.phantom.interaction:Interaction{name.capitalize()}" for name in DEFAULT_MODALITIES}
    ),
)
SCHEMES: Mapping[str, Scheme] = MappingProxyType({scheme.name: scheme for scheme in (ORDINARY, INTERACTION)})


def find_scheme(name: str) -> Scheme:
    """The scheme called `name`.

    Raises
    ------
    InputError
        Where there is none.
    """
    if name not in SCHEMES:
        raise InputError("scheme", name, f"must be one of {', '.join(SCHEMES)}")
    return SCHEMES[name]
