"""Recordings that should not be answered without a look at them: unknown voltages, swapped electrodes, bad signal."""

from __future__ import annotations

from collections.abc import Callable

from consilium.modalities.ecg.ecg_record import SENTENCES, UNKNOWN_VOLTAGES, Fault
from consilium.modalities.ecg.preparation import EcgPart
from consilium.modalities.typicality import Typicality

CHECKS: dict[str, tuple[Fault, ...]] = {
    "ecg_voltages": UNKNOWN_VOLTAGES,
    "ecg_leads": (Fault.REVERSED, Fault.LIMB_LEADS),
    "ecg_quality": (Fault.CLIPPED, Fault.FLAT, Fault.MAINS),
}


def _check(faults: tuple[Fault, ...]) -> Callable[[EcgPart], tuple[str, ...]]:
    def check(part: EcgPart) -> tuple[str, ...]:
        several = len(part.faults) > 1
        return tuple(
            f"{f'ECG {number}' if several else 'The ECG'}: {SENTENCES[fault]}."
            for number, own in enumerate(part.faults, start=1)
            for fault in own
            if fault in faults
        )

    return check


TYPICALITY = Typicality(checks={name: _check(faults) for name, faults in CHECKS.items()})
