"""The zone in which a site's clocks run: what a time means that does not say its offset from UTC."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import UTC, datetime, timezone
from zoneinfo import ZoneInfo

from consilium.domain.errors import InputError
from consilium.system.environment import Variable

_RULE = "must be the name of a time zone in the IANA database, such as Europe/Berlin or UTC"


@dataclass(frozen=True, slots=True)
class TimeZone:
    """A zone of the IANA database; without a name that of this process.

    Raises
    ------
    InputError
        There is no zone of that name.
    """

    name: str | None = None

    def __post_init__(self) -> None:
        if self.name is not None:
            try:
                ZoneInfo(self.name)
            # Of an unknown name, of one that is a path or of a folder's.
            except (KeyError, ValueError, OSError):
                raise InputError("time_zone", self.name, _RULE) from None

    def __str__(self) -> str:
        return self.name or "this computer"

    def local(self, moment: datetime) -> datetime:
        """The same instant as a clock of this zone shows it, with its offset as it is then.

        The offset is fixed: of two times that share one changing zone, Python compares the clocks, not the instants.
        `moment` must not lie in the first or last year of the calendar.
        """
        shown = moment.astimezone(None if self.name is None else ZoneInfo(self.name))
        return shown.replace(tzinfo=timezone(shown.utcoffset() or UTC.utcoffset(None)), fold=0)

    def instant(self, clock: datetime) -> tuple[datetime, str | None]:
        """When a clock of this zone shows `clock`, which has no offset; and what is doubtful about that.

        Where the clocks go back, an hour comes twice: the first is meant. Where they go forward, an hour is left out: a
        time in it is taken with the offset before the change.
        """
        first, last = sorted(self._aware(clock.replace(fold=fold)) for fold in (0, 1))
        if first == last:
            return self.local(first), None
        if self.local(first).replace(tzinfo=None) == clock:
            return self.local(first), f"the clocks of {self} show this time twice that day; the first is taken"
        return self.local(last), f"the clocks of {self} leave this time out that day; it is taken as before the change"

    def _aware(self, clock: datetime) -> datetime:
        return clock.astimezone(UTC) if self.name is None else clock.replace(tzinfo=ZoneInfo(self.name)).astimezone(UTC)


def site_zone() -> TimeZone:
    """``CONSILIUM_TIME_ZONE``, or the zone of this process.

    Raises
    ------
    InputError
        The variable names no zone.
    """
    try:
        return TimeZone(os.environ.get(Variable.TIME_ZONE) or None)
    except InputError as error:
        raise InputError(Variable.TIME_ZONE.value, error.value, error.rule) from None
