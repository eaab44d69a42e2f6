"""When a study was made, and whether the clock that says so can be trusted."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

TOLERANCE = timedelta(minutes=5)
"""By which two clocks of a hospital may differ."""
LONG_BEFORE = timedelta(days=2)
"""A study that was made so long before it arrived was delayed, or its clock is wrong."""


@dataclass(frozen=True, slots=True)
class StudyTime:
    """The moment for which the question is asked.

    Attributes
    ----------
    reference : datetime or None
        When the earliest image was made; its receipt where the image claims to be made after it. None: nothing says.
    corrected : bool
        The images' own time is not used.
    warnings : tuple of str
    """

    reference: datetime | None
    corrected: bool = False
    warnings: tuple[str, ...] = ()


def study_time(acquired: Iterable[datetime | None], received: datetime) -> StudyTime:
    """When a study was made, of its images' times and of when the first of them was `received`.

    No image is older at its receipt than when it was made: a later acquisition is a wrong clock, and values from after
    the image would pass for such from before it. Then the time of receipt stands for it.
    """
    known = [time for time in acquired if time is not None]
    if not known:
        return StudyTime(None, warnings=("no image says when it was made: values and notes with times are left out",))
    made = min(known)
    if made > received + TOLERANCE:
        warning = "the images claim to be made after they were received: the clock of the modality is wrong"
        return StudyTime(received, corrected=True, warnings=(warning,))
    if received - made > LONG_BEFORE:
        days = (received - made).days
        return StudyTime(made, warnings=(f"the images were made {days} days before they were received",))
    return StudyTime(made)
