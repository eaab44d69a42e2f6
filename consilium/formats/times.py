"""Points in time as records give them: ISO 8601 in requests and tables, DA, TM and DT in DICOM.

Every one becomes an instant: by its own offset from UTC, in DICOM also by that of the file (0008,0201), else by the
site's zone. They are kept as a clock of the site shows them, with the offset of that day.
"""

from __future__ import annotations

import re
from datetime import MAXYEAR, MINYEAR, datetime, timedelta, timezone

from consilium.domain.errors import InputError
from consilium.formats.time_zone import TimeZone, site_zone

RULE = "must be an ISO 8601 date and time such as 2020-03-01T10:00:00 or, with its offset, 2020-03-01T10:00:00+01:00"
_CALENDAR = f"must lie within the years {MINYEAR + 1} to {MAXYEAR - 1}"
_ISO = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2}|[0-9]{8})[T ]"
    r"([0-9]{2}(?::?[0-9]{2}(?::?[0-9]{2}(?:[.,][0-9]{1,9})?)?)?) ?(Z|[+-][0-9]{2}(?::?[0-9]{2}(?::?[0-9]{2})?)?)?"
)
_DATE = re.compile(r"([0-9]{4})[.]?([0-9]{2})[.]?([0-9]{2})")
_TIME = re.compile(r"([0-9]{2}):?([0-9]{2})?:?([0-9]{2})?(?:\.([0-9]*))?")
_DATE_TIME = re.compile(r"([0-9]{8})([0-9]{2,6}(?:\.[0-9]*)?)([+-][0-9]{4})?")
_END_OF_DAY = re.compile(r"24(?::?00(?::?00(?:[.,]0+)?)?)?")
"""The midnight at the end of a day (ISO 8601-1:2019/Amd 1:2022, 5.3.2): 00:00 of the next."""
_LEAP_SECOND = re.compile(r"^([0-9]{2}:?[0-9]{2}:?)60")
_OFFSET = re.compile(r"([+-])([0-9]{2}):?([0-9]{2})")
_WESTERNMOST, _EASTERNMOST = timedelta(hours=-12), timedelta(hours=14)


def read_time(value: object, field: str, zone: TimeZone | None = None) -> tuple[datetime | None, tuple[str, ...]]:
    """An ISO 8601 date and time as an instant, or None; and what is doubtful about it.

    Parameters
    ----------
    zone : TimeZone or None
        In which a time without an offset is meant; `site_zone` unless given. The clock of this zone is shown.

    Raises
    ------
    InputError
        Not ISO 8601, or a date without a time of day: whether that is before the image is unknown.
    """
    if value is None or (isinstance(value, str) and not value.strip()):
        return None, ()
    moment = value if isinstance(value, datetime) else _iso(value)
    offset = None if moment is None else moment.utcoffset()
    if moment is None or (offset is not None and not _WESTERNMOST <= offset <= _EASTERNMOST):
        raise InputError(field, value, RULE)
    return _instant(moment, field, zone or site_zone())


def dicom_date_time(date: str, time: str, offset: timezone | None = None) -> datetime | None:
    """Join a DICOM date (DA) and time of day (TM); None where either is empty or malformed. Source: PS3.5 6.2.

    It is without an offset where the file states none.
    """
    day, clock = _DATE.fullmatch(date.strip()), _TIME.fullmatch(time.strip())
    if not day or not clock:
        return None
    hour, minute, second, fraction = clock.groups()
    try:
        return datetime(
            int(day[1]),
            int(day[2]),
            int(day[3]),
            int(hour),
            int(minute or 0),
            _second(second or "0"),
            int((fraction or "")[:6].ljust(6, "0")),
            offset,
        )
    except ValueError:
        return None


def _second(shown: str) -> int:
    """The second of a minute; a leap second counts as the one before it, which Python's clock has no place for."""
    return 59 if shown == "60" else int(shown)


def dicom_datetime(value: str, offset: timezone | None = None) -> datetime | None:
    """Read a DICOM date-time (DT) of at least an hour; None where malformed. Its own offset goes before the file's."""
    match = _DATE_TIME.fullmatch(value.strip())
    if not match:
        return None
    own = dicom_offset(match[3]) if match[3] else offset
    return None if match[3] and own is None else dicom_date_time(match[1], match[2], own)


def dicom_offset(value: str) -> timezone | None:
    """An offset from UTC as DICOM writes it, ``+0100``; None where malformed. Source: PS3.3 C.12.1.1.8, PS3.5 6.2."""
    match = _OFFSET.fullmatch(value.strip())
    if not match or int(match[3]) >= 60:
        return None
    offset = timedelta(hours=int(match[2]), minutes=int(match[3])) * (-1 if match[1] == "-" else 1)
    return timezone(offset) if _WESTERNMOST <= offset <= _EASTERNMOST else None


def file_time(moment: datetime | None, field: str, zone: TimeZone) -> tuple[datetime | None, tuple[str, ...]]:
    """The time that a file gives as an instant, None where it cannot be one; and what is doubtful about it.

    A file's time is read where the file is decoded; what it means without an offset is known only where it is put into
    a study.
    """
    if moment is None:
        return None, ()
    try:
        return _instant(moment, field, zone)
    except InputError as error:
        return None, (f"{field} is not used: {error.rule}",)


def _iso(value: object) -> datetime | None:
    written = value.strip().upper() if isinstance(value, str) else ""
    match = _ISO.fullmatch(written)
    if not match:
        return None
    day, clock, offset = match[1], match[2], match[3] or ""
    midnight = _END_OF_DAY.fullmatch(clock)
    clock = "00:00" if midnight else _LEAP_SECOND.sub(r"\g<1>59", clock)
    try:
        return datetime.fromisoformat(f"{day}T{clock}{offset}") + timedelta(days=1 if midnight else 0)
    except (ValueError, OverflowError):
        return None


def _instant(moment: datetime, field: str, zone: TimeZone) -> tuple[datetime, tuple[str, ...]]:
    # Within a day of the calendar's ends it would depend on the zone.
    if not MINYEAR < moment.year < MAXYEAR:
        raise InputError(field, moment.isoformat(), _CALENDAR)
    instant, doubt = (zone.local(moment), None) if moment.tzinfo is not None else zone.instant(moment)
    return instant, () if doubt is None else (f"{field}: {doubt}",)
