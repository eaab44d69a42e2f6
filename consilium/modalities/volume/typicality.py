"""Volumes that should not be answered without a look at them: slices that lack, units that are unknown, blanks."""

from __future__ import annotations

from collections.abc import Callable

from consilium.modalities.typicality import Typicality
from consilium.modalities.volume.faults import SENTENCES, Fault
from consilium.modalities.volume.preparation import VolumePart

CHECKS: dict[str, tuple[Fault, ...]] = {
    "volume_slices": (Fault.GAPS, Fault.DISTANCES, Fault.ORIENTATION),
    "volume_units": (Fault.UNITS,),
    "volume_blank": (Fault.BLANK,),
}


def _check(faults: tuple[Fault, ...]) -> Callable[[VolumePart], tuple[str, ...]]:
    def check(part: VolumePart) -> tuple[str, ...]:
        several = len(part.faults) > 1
        return tuple(
            f"{f'Volume {number}' if several else 'The volume'}: {SENTENCES[fault]}."
            for number, own in enumerate(part.faults, start=1)
            for fault in own
            if fault in faults
        )

    return check


TYPICALITY = Typicality(checks={name: _check(faults) for name, faults in CHECKS.items()})
