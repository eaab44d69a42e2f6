"""Sounds, where a model is trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import ClassVar

from consilium.configuration.modality_sections import Scope
from consilium.configuration.recipe import Recipe
from consilium.domain.study import Study
from training.data.cached_cohort import CachedCohort
from training.modalities.audio.spectra_baseline import BASELINE
from training.modalities.signal_training import SignalTraining
from training.training_side import Baseline, Row


class AudioTraining(SignalTraining):
    """As any signal; what files say of their recording, and a simple baseline."""

    one, several = "sound", "sounds"
    origin_groups: ClassVar[Mapping[str, str]] = MappingProxyType({"recording": "how the sound was recorded"})

    def origins(self, cached: CachedCohort, scope: Scope) -> Mapping[str, Sequence[Row]]:
        rows = [_recording(study) for study in cached.studies]
        return {**super().origins(cached, scope), "recording": rows}

    def baseline(self) -> Baseline | None:
        return BASELINE

    def card_sentences(self, recipe: Recipe) -> Sequence[str]:
        section = recipe.modalities[self.name]
        band = f"{section.low_hz:g} to {section.high_hz:g} Hz"
        return (f"Of a sound it reads the middle {section.seconds} s, {band}, whatever its loudness.",)


def _recording(study: Study) -> Row:
    """Of the first sound: the kind of file, its rate and its length."""
    first = next(iter(study.parts["audio"]), None)
    return {
        "source": first and first.source,
        "rate": first and float(first.rate),
        "seconds": first and float(first.seconds),
    }
