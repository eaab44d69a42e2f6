"""De-identification: the way of a patient's records into a cohort.

Identifiers become keyed pseudonyms, times move by whole days of 24 hours (the same number for all records of a
patient, so that intervals stay), ages above 89 become 90, and notes are masked as a model reads them
(`consilium.masking`). An Image keeps no identity; the digests of its identifiers go, because identifiers are few enough
to be guessed through a plain digest.

What this does not do: it finds few names that are neither given nor titled, no nickname, no misspelling, no place or
employer, no paraphrase, and nothing burned into pixels; `benchmarks/masking.py` measures how many. It lowers
the risk of a cohort that stays inside the hospital; it does not make one fit to be published.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial

from consilium.domain.errors import InputError, UnreadableImage
from consilium.domain.study import Study
from consilium.formats.dicom.file_structure import quiet, read_elements
from consilium.formats.dicom.identity import IDENTITY_KEYWORDS, names_of
from consilium.formats.time_zone import TimeZone, site_zone

Move = Callable[[datetime | None], datetime | None]

_SHORTEST_KEY = 16
_MOST_DAYS = 365 * 3


def pseudonym(identifier: str, *, key: bytes, prefix: str = "p") -> str:
    """A pseudonym that is the same for the same identifier and key, and tells nothing without the key.

    HMAC-SHA-256, cut to 80 bits: ``p-3f2a…``.

    Raises
    ------
    InputError
        The key is shorter than 16 bytes.
    """
    return f"{prefix}-{_keyed(identifier, key)[:10].hex()}"


def names_in_dicom(data: bytes) -> tuple[str, ...]:
    """Names and identifiers that a DICOM file gives for its patient and physicians: the deny list for the notes.

    Raises
    ------
    InputError
        The header cannot be read.
    """
    try:
        with quiet():
            return names_of(read_elements(data, IDENTITY_KEYWORDS).dataset)
    except InputError:
        raise
    except Exception as error:  # whatever pydicom raises on a broken header
        raise UnreadableImage("file", type(error).__name__, "must have a readable DICOM header") from None


def deidentify_study(study: Study, *, key: bytes, names: Sequence[str] = (), zone: TimeZone | None = None) -> Study:
    """The study as a cohort may keep it. The module tells what is changed, and what is not found.

    Parameters
    ----------
    key : bytes
        Secret of the hospital, at least 16 bytes. The same key gives a patient the same pseudonym in every study.
    names : sequence of str
        As `consilium.masking.mask_text` takes them; those of the study and its images are added.
    zone : TimeZone or None
        Whose clock shows the moved times; the site's unless given.

    Raises
    ------
    InputError
        The key is too short, or the study has no `patient_id` to make a pseudonym of.
    """
    if not study.patient_id:
        raise InputError("patient_id", "", "must be given, to be replaced by a pseudonym")
    denied = [*names, *study.known_names]
    move = partial(_moved, shift=_day_shift(study.patient_id, key), zone=zone or site_zone())
    return replace(
        study,
        parts={
            modality: tuple(record.deidentified(denied, move) for record in records)
            for modality, records in study.parts.items()
        },
        patient=study.patient.deidentified,
        reference_time=move(study.reference_time),
        names=(),
        study_id=pseudonym(study.study_id, key=key, prefix="s") if study.study_id else "",
        patient_id=pseudonym(study.patient_id, key=key),
    )


def _keyed(identifier: str, key: bytes) -> bytes:
    if len(key) < _SHORTEST_KEY:
        raise InputError("key", f"{len(key)} bytes", f"must be at least {_SHORTEST_KEY} secret bytes")
    return hmac.digest(key, identifier.encode(), hashlib.sha256)


def _day_shift(patient_id: str, key: bytes) -> timedelta:
    """Whole days back, never 0: a patient's records keep their intervals and, but for an hour, their times of day."""
    drawn = int.from_bytes(_keyed(f"day shift\n{patient_id}", key)[:8], "big")
    return -timedelta(days=1 + drawn % _MOST_DAYS)


def _moved(time: datetime | None, shift: timedelta, zone: TimeZone) -> datetime | None:
    if time is None:
        return None
    try:
        # With the offset of the new day: that of the old one tells summer from winter.
        return zone.local(time + shift)
    except OverflowError:
        return None
