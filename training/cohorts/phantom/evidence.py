"""Evidence: what each modality of a record carries, drawn from p(evidence | state) and nothing else.

Given the state, the modalities are independent of each other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from consilium.domain.errors import InputError
from training.cohorts.phantom.phantom_modality import PhantomModality
from training.cohorts.phantom.renderers import DEFAULT_MODALITIES, checked_modalities, phantom_modalities
from training.cohorts.phantom.schemes import ORDINARY, Scheme
from training.cohorts.phantom.state import State

if TYPE_CHECKING:
    from training.cohorts.phantom.record import Shift

Streams = Callable[[str], np.random.Generator]
"""Name of a stream → its generator, for one study."""
SHARED_STREAM = "evidence"


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """One study's evidence, free of any nuisance.

    Attributes
    ----------
    parts : mapping of modality to its evidence
        Of every modality of the cohort, whether the record has it or not.
    modalities : frozenset of str
        Modalities that the record has at all.
    """

    parts: Mapping[str, Any]
    modalities: frozenset[str]

    def with_part(self, modality: str, evidence: Any) -> Evidence:
        """The same but for the evidence of one modality."""
        return replace(self, parts={**self.parts, modality: evidence})


@dataclass(frozen=True, slots=True, eq=False)
class EvidenceModel:
    """p(evidence | state) of the whole record.

    Attributes
    ----------
    modalities : tuple of str
        Of the cohort, in order.
    phantoms : mapping of modality to PhantomModality
        Of those, and of the built-in ones, which share a stream and are drawn in any case.
    missing : mapping of modality to float
        P(whole modality missing), independent of the state.
    """

    modalities: tuple[str, ...]
    phantoms: Mapping[str, PhantomModality]
    missing: Mapping[str, float]

    def draw(self, state: State, streams: Streams) -> Evidence:
        """Evidence of one study. At least one modality is kept."""
        shared = streams(SHARED_STREAM)
        parts = {name: self.phantoms[name].draw(state, shared) for name in DEFAULT_MODALITIES}
        kept = {name for name in DEFAULT_MODALITIES if shared.random() >= self.missing[name]}
        spare = DEFAULT_MODALITIES[int(shared.integers(len(DEFAULT_MODALITIES)))]
        kept = kept or {spare}
        for name in self.modalities:
            if name not in DEFAULT_MODALITIES:
                parts[name] = self.phantoms[name].draw(state, streams(f"evidence:{name}"))
                kept |= {name} if streams(f"presence:{name}").random() >= self.missing[name] else set()
        kept &= set(self.modalities)
        if not kept:
            kept = {self.modalities[int(streams("presence").integers(len(self.modalities)))]}
        return Evidence({name: parts[name] for name in self.modalities}, frozenset(kept))


def load_evidence(modalities: Sequence[str], shift: Shift, scheme: Scheme = ORDINARY) -> EvidenceModel:
    """The distribution of these `modalities` in the `scheme`, departing from it by `shift`.

    Raises
    ------
    InputError
        An unknown modality or key, or a rate that is not a probability below one.
    """
    chosen = checked_modalities(modalities)
    known = phantom_modalities(scheme)
    members = scheme.states().members
    phantoms = {name: known[name].shifted(shift, members) for name in dict.fromkeys([*DEFAULT_MODALITIES, *chosen])}
    for key, rate in shift.missing_modality.items():
        if key not in chosen:
            raise InputError("missing_modality", key, f"must be one of {', '.join(chosen)}")
        if not 0 <= rate < 1:
            raise InputError(f"missing_modality[{key}]", rate, "must be a probability below 1")
    missing = {name: phantom.missing for name, phantom in phantoms.items()}
    return EvidenceModel(chosen, phantoms, {**missing, **shift.missing_modality})
