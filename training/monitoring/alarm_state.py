"""What the alarms of a model remember between runs: since when they test, what was raised, what was accepted.

Evidence itself is computed anew from the stored answers in every run, which takes seconds for a year of them: the same
answers give the same alarms, whatever happened to earlier runs. An alarm, once raised, stays until it is accepted, even
where the answers that raised it have been purged since.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from consilium.domain.errors import InputError
from consilium.system.durable import replace_json
from training.monitoring.alarms import DAY, YEAR_DAYS, AlarmRule, StreamEvidence

_FORMAT = "alarm-state-1"
_MOST_LOG = 690.0  # beyond it a float is infinite, which JSON has no word for


@dataclass(frozen=True, slots=True)
class Alarm:
    """A test that has rejected "nothing has changed".

    Attributes
    ----------
    kind, label : str
        As `StreamEvidence`.
    since : str
        Day (UTC) on which its evidence sufficed, as 2026-11-30.
    log_e_value : float
        Natural logarithm of the largest evidence so far.
    alpha : float
        The stream's share of the yearly false-alarm rate.
    """

    kind: str
    label: str
    since: str
    log_e_value: float
    alpha: float

    @property
    def name(self) -> str:
        return f"{self.kind} {self.label}".strip()

    @property
    def e_value(self) -> float:
        return math.exp(min(self.log_e_value, _MOST_LOG))


@dataclass(frozen=True, slots=True)
class Acceptance:
    """Somebody has looked at the alarms and taken things as they are: the tests start anew.

    Attributes
    ----------
    time : float
        Seconds since 1970.
    """

    time: float
    reason: str
    alarms: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AlarmState:
    """Of one model, by the digest of its manifest.

    Attributes
    ----------
    first_day : float or None
        Midnight (UTC) before the first answer, seconds since 1970; None: there was none yet.
    alarms : tuple of Alarm
        Raised and not accepted.
    accepted : tuple of Acceptance
        Oldest first.
    """

    first_day: float | None = None
    alarms: tuple[Alarm, ...] = ()
    accepted: tuple[Acceptance, ...] = ()

    def started(self, until: float) -> tuple[float, bool]:
        """Since when the tests run that count at `until`, and whether held-out studies still are their reference.

        They start at the first answer, the day after an acceptance, and a year after they started last. What was
        accepted may differ from the held-out studies; from then on only changes among the answers are looked for.
        """
        if self.first_day is None:
            return until, True
        begin = self.first_day
        past = [one.time for one in self.accepted if one.time < until]
        if past:
            begin = (past[-1] // DAY + 1) * DAY
        years = max(math.ceil((until - begin) / (YEAR_DAYS * DAY)) - 1, 0)
        return begin + years * YEAR_DAYS * DAY, not past

    def seen(self, first: float) -> AlarmState:
        """With the time of the oldest answer."""
        midnight = first // DAY * DAY
        return self if self.first_day is not None else replace(self, first_day=midnight)

    def raised(self, tested: Sequence[StreamEvidence], started: float, rule: AlarmRule) -> AlarmState:
        """With the alarms of `tested` beside those that stand; of one that stands the day stays, evidence grows."""
        standing = {one.name: one for one in self.alarms}
        for stream in tested:
            if stream.crossed is None:
                continue
            crossed = started + (stream.crossed + 1) * rule.block_days * DAY - 1
            since = standing[stream.name].since if stream.name in standing else _day(crossed)
            log_e = max(stream.log_e_value, getattr(standing.get(stream.name), "log_e_value", 0.0))
            standing[stream.name] = Alarm(stream.kind, stream.label, since, log_e, stream.alpha)
        ordered = sorted(standing.values(), key=lambda one: (one.since, -one.log_e_value, one.name))
        return replace(self, alarms=tuple(ordered))

    def accept(self, time: float, reason: str) -> AlarmState:
        """Without alarms; `InputError` where there is none, or no reason."""
        if not self.alarms:
            raise InputError("monitor", "no alarm", "must have an alarm to accept")
        if not reason.strip():
            raise InputError("--reason", reason, "must say why the change is accepted")
        done = Acceptance(time, reason, tuple(one.name for one in self.alarms))
        return replace(self, alarms=(), accepted=(*self.accepted, done))


def load_state(path: Path, digest: str) -> AlarmState:
    """The state of the model `digest` in the file `path`; a new one where there is none.

    Raises
    ------
    InputError
        For a file that is something else.
    """
    data = _read(path).get(digest)
    if data is None:
        return AlarmState()
    try:
        return AlarmState(
            first_day=data["first_day"],
            alarms=tuple(Alarm(**one) for one in data["alarms"]),
            accepted=tuple(Acceptance(one["time"], one["reason"], tuple(one["alarms"])) for one in data["accepted"]),
        )
    except (KeyError, TypeError) as error:
        raise _broken(path, type(error).__name__) from None


def save_state(path: Path, digest: str, state: AlarmState) -> None:
    """Write `state` in one step; the states of other models in the file stay."""
    models = _read(path) | {digest: json.loads(json.dumps(asdict(state)))}
    replace_json(path, {"format": _FORMAT, "models": models})


def _read(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        data = json.loads(path.read_bytes())
        models = data["models"] if data["format"] == _FORMAT else None
    except (ValueError, KeyError, TypeError) as error:
        raise _broken(path, type(error).__name__) from None
    if not isinstance(models, dict):
        raise _broken(path, "another format")
    return models


def _broken(path: Path, what: str) -> InputError:
    return InputError("monitor.state", f"{path.name} ({what})", f"must be a file of the format {_FORMAT}")


def _day(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).date().isoformat()
