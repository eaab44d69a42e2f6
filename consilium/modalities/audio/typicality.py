"""Sounds that should not be answered without a listen: bad recordings, and those that lack what is read."""

from __future__ import annotations

from collections.abc import Callable

from consilium.modalities.audio.preparation import AudioPart
from consilium.modalities.audio.sound_record import SENTENCES, Fault
from consilium.modalities.typicality import Typicality

CHECKS: dict[str, tuple[Fault, ...]] = {
    "sound_quality": (Fault.CLIPPED, Fault.COARSE, Fault.DROPOUTS),
    "sound_band": (Fault.NARROW,),
}


def _check(faults: tuple[Fault, ...]) -> Callable[[AudioPart], tuple[str, ...]]:
    def check(part: AudioPart) -> tuple[str, ...]:
        several = len(part.faults) > 1
        return tuple(
            f"{f'Sound {number}' if several else 'The sound'}: {SENTENCES[fault]}."
            for number, own in enumerate(part.faults, start=1)
            for fault in own
            if fault in faults
        )

    return check


TYPICALITY = Typicality(checks={name: _check(faults) for name, faults in CHECKS.items()})
