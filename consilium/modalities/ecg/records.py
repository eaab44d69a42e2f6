"""ECGs from files of any kind, recognised by their first bytes."""

from __future__ import annotations

import hashlib

import numpy as np

from consilium.domain.errors import InputError, TooLarge, UnsupportedMedia
from consilium.formats.dicom.file_structure import is_dicom
from consilium.formats.limits import Limits
from consilium.modalities.ecg import lead_checks
from consilium.modalities.ecg.ecg_record import Ecg, Fault
from consilium.modalities.ecg.files.bounds import LEAST_SECONDS, check_samples
from consilium.modalities.ecg.files.csv_file import read_csv
from consilium.modalities.ecg.files.signals import LEADS, Floats, Signals, standard_lead
from consilium.modalities.ecg.files.waveform_file import read_waveform
from consilium.modalities.ecg.files.wfdb_file import read_wfdb
from consilium.modalities.registry import default_limits

_LEAST_KNOWN = 0.5
"""Share of a lead's samples below which it is left out."""
_MOST_MILLIVOLTS = 1e4
_LEAST_RANGE, _MOST_RANGE = 0.02, 100.0
"""Millivolts that no ECG stays within, and that none spans: another unit was meant."""
_STEP_MILLIVOLTS = 1e-3

_OTHERS = {
    b"<": "XML, such as HL7 aECG",
    b"\x1f\x8b": "gzip file",
    b"%PDF": "PDF",
    b"\x89PNG": "a picture",
    b"\xff\xd8\xff": "a picture",
    b"{": "JSON",
}


def read_ecg(data: bytes, *, field: str = "ecg", limits: Limits | None = None) -> Ecg:
    """Read a zip archive of a WFDB record, a DICOM waveform or a CSV table.

    Raises
    ------
    InputError
        Names what is wrong with the file.
    """
    limits = limits or default_limits()
    try:
        if len(data) > limits["ecg_bytes"]:
            raise TooLarge("size", len(data), f"must be at most {limits['ecg_bytes']} bytes")
        return _recording(_signals(data, limits), hashlib.sha256(data).hexdigest(), limits)
    except InputError as error:
        raise error.at(field) from None


def _signals(data: bytes, limits: Limits) -> Signals:
    if is_dicom(data):
        return read_waveform(data, limits)
    if data.startswith(b"PK\x03\x04"):
        return read_wfdb(data, limits)
    kind = next((kind for start, kind in _OTHERS.items() if data.lstrip().startswith(start)), None)
    if kind is not None or not data or b"\0" in data:
        given = kind or ("unknown" if data else "empty file")
        raise UnsupportedMedia("file", given, "must be a zip of a WFDB record, a DICOM waveform or CSV")
    return read_csv(data, limits)


def _recording(signals: Signals, digest: str, limits: Limits) -> Ecg:
    check_samples(len(LEADS), signals.millivolts.shape[1], limits["ecg_samples"])
    positions, signs, kept, warnings = _leads(signals)
    chosen, sign = [signals.millivolts[i] for i in kept], np.array(signs)[:, None]
    millivolts = _checked(lead_checks.in_order(positions, np.stack(chosen) * sign))
    seconds = millivolts.shape[1] / signals.rate
    if seconds < LEAST_SECONDS:
        raise InputError("samples", f"{seconds:.3g} s", f"must be at least {LEAST_SECONDS:g} s")
    steps = None if signals.steps is None else lead_checks.in_order(positions, signals.steps[kept] * sign)
    wrong = lead_checks.gains_are_wrong(millivolts, steps)
    if wrong and steps is not None:
        steps = steps - np.nanmedian(
            np.where(np.isfinite(steps).any(axis=1, keepdims=True), steps, 0), axis=1, keepdims=True
        )
        millivolts = steps * _STEP_MILLIVOLTS
    millivolts, gone = _without_gaps(millivolts)
    flat = lead_checks.flat_leads(millivolts)
    unstated = bool(signals.gains_stated) and not all(signals.gains_stated[row] for row in kept)
    if not wrong and not unstated:
        _check_range(millivolts)
    faults = _faults(millivolts, signals.rate, wrong, unstated and not wrong, bool(flat.any()))
    millivolts[flat] = np.nan
    left_out = [*gone, *(f"lead {LEADS[i]} left out: it is flat" for i in np.flatnonzero(flat))]
    if not np.isfinite(millivolts).any():
        raise InputError("leads", "nothing but flat leads", "must have a lead that shows a heartbeat")
    millivolts, derived = (millivolts, ()) if Fault.LIMB_LEADS in faults else lead_checks.completed(millivolts)
    absent = [lead for lead, row in zip(LEADS, millivolts, strict=True) if not np.isfinite(row).any()]
    missing = [f"without the leads {', '.join(absent)}"] if absent else []
    return Ecg(
        samples=millivolts.astype(np.float32),
        rate=signals.rate,
        digest=digest,
        source=signals.source,
        derived=derived,
        faults=faults,
        time=signals.time,
        warnings=(*signals.warnings, *warnings, *left_out, *missing),
        **signals.known,
    )


def _leads(signals: Signals) -> tuple[list[int], list[float], list[int], list[str]]:
    """Positions among the standard leads and signs, of the rows that are kept; and what is not."""
    positions: list[int] = []
    signs: list[float] = []
    kept: list[int] = []
    warnings: list[str] = []
    for row, name in enumerate(signals.names):
        lead = standard_lead(name)
        if lead is None:
            warnings.append(f"signal {row + 1} left out: it is none of the twelve standard leads")
        elif not np.isfinite(signals.millivolts[row]).any():
            warnings.append(f"lead {lead[0]} left out: without a sample in a unit of voltage")
        elif LEADS.index(lead[0]) in positions:
            raise InputError(f"leads[{row}]", lead[0], "must be given once")
        else:
            positions.append(LEADS.index(lead[0]))
            signs.append(lead[1])
            kept.append(row)
    if not kept:
        rule = f"must hold at least one of {', '.join(LEADS)} in a unit of voltage"
        raise InputError("leads", f"{len(signals.names)} signals", rule)
    return positions, signs, kept, warnings


def _checked(millivolts: Floats) -> Floats:
    known = millivolts[np.isfinite(millivolts)]
    if np.isinf(millivolts).any() or np.abs(known).max() > _MOST_MILLIVOLTS:
        raise InputError("samples", "values beyond any electrode's", f"must lie within {_MOST_MILLIVOLTS:g} mV")
    return millivolts


def _check_range(millivolts: Floats) -> None:
    there = millivolts[np.isfinite(millivolts).any(axis=1)]
    low, high = np.nanpercentile(there, [0.5, 99.5], axis=1)
    ranges = high - low
    if 0 < ranges.max() < _LEAST_RANGE or np.median(ranges) > _MOST_RANGE:
        given = f"leads of {float(np.median(ranges)):.3g} mV"
        rule = f"must span {_LEAST_RANGE:g} to {_MOST_RANGE:g} mV: is the unit that which the file states?"
        raise InputError("samples", given, rule)


def _without_gaps(millivolts: Floats) -> tuple[Floats, list[str]]:
    warnings = []
    found = millivolts.copy()
    for position, lead in enumerate(LEADS):
        share = float(np.isfinite(millivolts[position]).mean())
        if 0 < share < _LEAST_KNOWN:
            found[position] = np.nan
            warnings.append(f"lead {lead} left out: more than half of its samples are missing")
        elif 0 < share < 1:
            found[position] = lead_checks.filled(millivolts[position])
            warnings.append(f"lead {lead}: missing samples are read as the line between their neighbours")
    if not np.isfinite(found).any():
        raise InputError("samples", "mostly missing", "must have a lead with at least half of its samples")
    return found, warnings


def _faults(leads: Floats, rate: float, wrong: bool, unstated: bool, flat: bool) -> tuple[Fault, ...]:
    found = {
        Fault.GAINS: wrong,
        Fault.NO_GAINS: unstated,
        Fault.LIMB_LEADS: not wrong and lead_checks.limb_leads_contradict(leads),
        Fault.REVERSED: lead_checks.arms_reversed(leads),
        Fault.CLIPPED: lead_checks.clipped(leads, rate),
        Fault.FLAT: flat,
        Fault.MAINS: lead_checks.hums(leads, rate),
    }
    return tuple(fault for fault, there in found.items() if there)
