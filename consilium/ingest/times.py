"""Points in time as records give them, ISO 8601 in JSON, DA, TM and DT in DICOM, become naive hospital-local time."""

from __future__ import annotations

import re
from datetime import datetime

from consilium.errors import InputError

_DATE = re.compile(r"(\d{4})[.]?(\d{2})[.]?(\d{2})$")
_TIME = re.compile(r"(\d{2}):?(\d{2})?:?(\d{2})?(?:\.(\d{1,6}))?$")
_DATE_TIME = re.compile(r"(\d{8})(\d{2,6}(?:\.\d{1,6})?)(?:[+-]\d{4})?$")


def read_time(value: object, field: str) -> datetime | None:
    """An ISO 8601 date and time, or None.

    A time with an offset (``2020-03-01T10:00:00Z``) is turned into the local time of this process, which is to run in
    the hospital's time zone; one without is taken for local time.

    Raises
    ------
    InputError
        Not ISO 8601, or a date without a time of day: it cannot be said whether that is before the image.
    """
    if value is None or value == "":
        return None
    if isinstance(value, str):
        if len(value) <= 10 or len(value) > 40:
            raise InputError(field, value, "must be an ISO 8601 date and time such as 2020-03-01T10:00:00")
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            raise InputError(field, value, "must be an ISO 8601 date and time such as 2020-03-01T10:00:00") from None
    if not isinstance(value, datetime):
        raise InputError(field, value, "must be an ISO 8601 date and time such as 2020-03-01T10:00:00")
    if value.tzinfo is None:
        return value
    try:
        return value.astimezone().replace(tzinfo=None)
    except (OverflowError, OSError, ValueError):
        raise InputError(field, value.isoformat(), "must lie within the years of the calendar") from None


def dicom_date_time(date: str, time: str) -> datetime | None:
    """Join a DICOM date (DA) and time of day (TM); None where either is empty or malformed. Source: PS3.5 6.2."""
    day, clock = _DATE.match(date.strip()), _TIME.match(time.strip())
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
            min(int(second or 0), 59),
            int((fraction or "").ljust(6, "0")),
        )
    except ValueError:
        return None


def dicom_datetime(value: str) -> datetime | None:
    """Read a DICOM date-time (DT) of at least an hour, without its offset: it is local time. None where malformed."""
    match = _DATE_TIME.match(value.strip())
    return dicom_date_time(match[1], match[2]) if match else None
