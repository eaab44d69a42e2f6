"""De-identification: the way of a patient's records into a cohort.

Identifiers become keyed pseudonyms, times move by whole days (the same number for all records of a patient, so that
intervals stay), ages above 89 become 90, and notes lose what matches a rule: the patient's own names, and patterns for
titled names, identifiers, dates, telephone numbers, addresses of mail, web and street. An Image holds no identity to
begin with; the digests of its identifiers go, because identifiers are few enough to be guessed through a plain digest.

What this does not do: it finds no name that is neither given nor titled, no nickname, no misspelling, no relative,
place or employer, nothing said in other words, and nothing burned into pixels. It over-reaches where a name is also a
word. It lowers the risk of a cohort that stays inside the hospital; it does not make one fit to be published.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import unicodedata
from collections.abc import Iterable, MutableSequence, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from consilium.errors import InputError, UnreadableImage
from consilium.ingest.dicom_file import quiet, read_elements
from consilium.study import Image, Note, Observation, Patient, Study

_SHORTEST_KEY = 16
_OLDEST = 90.0
_MOST_DAYS = 365 * 3
_PARTICLES = frozenset(
    ("da", "de", "del", "della", "den", "der", "di", "dos", "du", "el", "la", "le", "los", "van", "von", "zu")
)
_NAME_KEYWORDS = (
    "PatientName",
    "OtherPatientNames",
    "PatientBirthName",
    "PatientMotherBirthName",
    "ReferringPhysicianName",
    "PerformingPhysicianName",
    "RequestingPhysician",
    "OperatorsName",
    "NameOfPhysiciansReadingStudy",
    "PhysiciansOfRecord",
    "ResponsiblePerson",
    "PatientID",
    "AccessionNumber",
)

_MONTHS = (
    "jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?|"
    "nov(?:ember)?|dec(?:ember)?"
)
_CAPITALISED = r"[^\W\d_a-z][\w'’-]+"

_CONTACTS: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("[email]", re.compile(r"\b[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63})+")),
    ("[url]", re.compile(r"\b(?:https?://|www\.)\S+", re.IGNORECASE)),
)
"""What may contain a name, and so goes first."""

_PATTERNS: tuple[tuple[str, re.Pattern[str]], ...] = (
    (
        "[id]",
        re.compile(
            r"\b(?:MRN|NHS|SSN|(?:patient|hospital|medical record|accession|case|account)\s{0,2}(?:id|no\.?|number|#))"
            r"[\s:#.]{0,4}[A-Z]{0,4}-?\d[\dA-Z-]{1,20}(?: \d{2,6}){0,4}\b",
            re.IGNORECASE,
        ),
    ),
    ("[id]", re.compile(r"\b\d{3}-\d{2}-\d{4}\b")),
    ("[date]", re.compile(r"\b(?:19|20)\d{2}[-/.]\d{1,2}[-/.]\d{1,2}(?:[T ]\d{1,2}:\d{2}(?::\d{2})?)?\b")),
    ("[date]", re.compile(r"\b\d{1,2}([-/.])\d{1,2}\1(?:\d{4}|\d{2})\b")),
    ("[date]", re.compile(rf"\b\d{{1,2}}(?:st|nd|rd|th)?\s+(?:of\s+)?(?:{_MONTHS})\b\.?,?(?:\s+(?:19|20)\d\d)?", re.I)),
    ("[date]", re.compile(rf"\b(?:{_MONTHS})\.?\s+\d{{1,2}}(?:st|nd|rd|th)?\b(?:,?\s+(?:19|20)\d\d)?", re.I)),
    ("[date]", re.compile(rf"\b(?:{_MONTHS})\.?,?\s+(?:19|20)\d\d\b", re.IGNORECASE)),
    ("[phone]", re.compile(r"(?<![\w.])(?:\+|00)\d{1,3}[ .-]?(?:\(?\d{1,4}\)?[ .-]?){2,5}\d{2,4}\b")),
    ("[phone]", re.compile(r"(?<![\w.])\(?\d{3}\)?[ .-]\d{3}[ .-]\d{4}\b")),
    (
        "[phone]",
        re.compile(r"\b(?:tel|phone|telephone|mobile|fax|bleep|pager|ext)\b[\s:.]{0,3}\d[\d ()-]{1,18}\d", re.I),
    ),
    (
        "[name]",
        re.compile(
            rf"\b(?:Dr|Mr|Mrs|Ms|Miss|Mx|Prof|Professor|Doctor|Sister|Nurse|Sr|Herr|Frau)\b\.?\s+"
            rf"(?:{_CAPITALISED}|[A-Z]\.)(?:\s+(?:{_CAPITALISED}|[A-Z]\.)){{0,2}}"
        ),
    ),
    (
        "[address]",
        re.compile(
            rf"\b\d{{1,5}}[A-Za-z]?\s+(?:{_CAPITALISED}\s+){{1,3}}"
            r"(?:Street|St|Road|Rd|Avenue|Ave|Lane|Ln|Drive|Close|Court|Way|Square|Boulevard|Blvd)\b\.?"
        ),
    ),
    ("[id]", re.compile(r"\b[A-Z]{0,3}\d{6,}\b")),
)

_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*|[A-Za-z]*\d[\w-]*")


def pseudonym(identifier: str, *, key: bytes, prefix: str = "p") -> str:
    """A pseudonym that is the same for the same identifier and key, and tells nothing without the key.

    HMAC-SHA-256, cut to 80 bits: ``p-3f2a…``.

    Raises
    ------
    InputError
        The key is shorter than 16 bytes.
    """
    return f"{prefix}-{_keyed(identifier, key)[:10].hex()}"


def deidentify_text(text: str, names: Iterable[str] = ()) -> str:
    """`text` with names, identifiers, dates and addresses replaced by ``[name]``, ``[id]``, ``[date]`` and so on.

    Parameters
    ----------
    names : iterable of str
        The patient's own: plain or as DICOM writes them (``Müller^Anna``), identifiers too. Each part of a name is
        looked for alone, whatever its case and accents.
    """
    denied = _name_parts(names)
    for shown, pattern in _CONTACTS:
        text = pattern.sub(shown, text)
    if denied:
        text = _WORD.sub(lambda word: _replacement(word[0]) if _is_denied(word[0], denied) else word[0], text)
    for shown, pattern in _PATTERNS:
        text = pattern.sub(shown, text)
    return text


def names_in_dicom(data: bytes) -> tuple[str, ...]:
    """Names and identifiers that a DICOM file gives for its patient and physicians: the deny list for the notes.

    Raises
    ------
    UnreadableImage
        The header cannot be read.
    """
    try:
        with quiet():
            header = read_elements(data, _NAME_KEYWORDS).dataset
            values = [str(part) for keyword in _NAME_KEYWORDS for part in _values(header.get(keyword))]
    except InputError:
        raise
    except Exception as error:  # whatever pydicom raises on a broken header
        raise UnreadableImage("image", type(error).__name__, "must have a readable DICOM header") from None
    return tuple(dict.fromkeys(value for value in values if value.strip()))


def deidentify_study(study: Study, *, key: bytes, names: Sequence[str] = ()) -> Study:
    """The study as a cohort may keep it. The module tells what is changed, and what is not found.

    Parameters
    ----------
    key : bytes
        Secret of the hospital, at least 16 bytes. The same key gives a patient the same pseudonym in every study.
    names : sequence of str
        As `deidentify_text` takes them; `study.patient_id` and `study.study_id` are added.

    Raises
    ------
    InputError
        The key is too short, or the study has no `patient_id` to make a pseudonym of.
    """
    if not study.patient_id:
        raise InputError("patient_id", "", "must be given, to be replaced by a pseudonym")
    denied = [*names, study.patient_id, study.study_id]
    shift = _day_shift(study.patient_id, key)
    return replace(
        study,
        images=tuple(_image(image, shift) for image in study.images),
        notes=tuple(_note(note, denied, shift) for note in study.notes),
        observations=tuple(_observation(observation, shift) for observation in study.observations),
        patient=_patient(study.patient),
        reference_time=_moved(study.reference_time, shift),
        study_id=pseudonym(study.study_id, key=key, prefix="s") if study.study_id else "",
        patient_id=pseudonym(study.patient_id, key=key),
    )


def _keyed(identifier: str, key: bytes) -> bytes:
    if len(key) < _SHORTEST_KEY:
        raise InputError("key", f"{len(key)} bytes", f"must be at least {_SHORTEST_KEY} secret bytes")
    return hmac.digest(key, identifier.encode(), hashlib.sha256)


def _day_shift(patient_id: str, key: bytes) -> timedelta:
    """Whole days back, never 0, so that the time of day and the order of a patient's records stay."""
    drawn = int.from_bytes(_keyed(f"day shift\n{patient_id}", key)[:8], "big")
    return -timedelta(days=1 + drawn % _MOST_DAYS)


def _moved(time: datetime | None, shift: timedelta) -> datetime | None:
    if time is None:
        return None
    try:
        return time + shift
    except OverflowError:
        return None


def _image(image: Image, shift: timedelta) -> Image:
    patient = _patient(image.patient)
    return replace(
        image, acquired=_moved(image.acquired, shift), patient_digest=None, study_digest=None, patient=patient
    )


def _note(note: Note, denied: Sequence[str], shift: timedelta) -> Note:
    return replace(note, text=deidentify_text(note.text, denied), time=_moved(note.time, shift))


def _observation(observation: Observation, shift: timedelta) -> Observation:
    return replace(observation, time=_moved(observation.time, shift))


def _patient(patient: Patient) -> Patient:
    return replace(patient, age=None if patient.age is None else min(patient.age, _OLDEST))


def _values(value: object) -> list[object]:
    if value is None:
        return []
    return list(value) if isinstance(value, MutableSequence) else [value]


def _folded(word: str) -> str:
    """Without case and accents; ß as ss."""
    return "".join(c for c in unicodedata.normalize("NFKD", word) if not unicodedata.combining(c)).casefold()


def _name_parts(names: Iterable[str]) -> frozenset[str]:
    parts = {_folded(part) for name in names for part in re.split(r"[\s^=,.;()/'’]+|(?<=[^\W\d_])-(?=[^\W\d_])", name)}
    return frozenset(part for part in parts if len(part) >= _shortest(part) and part not in _PARTICLES)


def _shortest(part: str) -> int:
    """A short number is rather a measurement than an identifier."""
    return 5 if part.isdigit() else 2


def _replacement(word: str) -> str:
    return "[id]" if any(character.isdigit() for character in word) else "[name]"


def _is_denied(word: str, denied: frozenset[str]) -> bool:
    for part in (word, *re.split(r"['’-]", word)):
        # Two letters are a name only where they begin with a capital: Wu, Ng, but not "no" or "in".
        if _folded(part) in denied and (len(part) > 2 or part[:1].isupper()):
            return True
    return False
