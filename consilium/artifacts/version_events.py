"""What happened to a registered version: promotions, rollbacks and gates, each a tag with its time.

A tag's key is what happened and when (``promoted 2026-05-01T10:00:00.000000Z``), its value why. Of a gate the value
says how it ended, by which gates, for which bytes and in which MLflow run: `GateRecord`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from consilium.artifacts.registry_client import RegistryClient, open_registry
from consilium.domain.errors import NotGated

PROMOTED, RESTORED, ROLLED_BACK = "promoted", "restored", "rolled back"
OVERRIDDEN = "gates overridden"
GATE = "gate"

_EVENT = re.compile(
    rf"(?P<action>{PROMOTED}|{RESTORED}|{ROLLED_BACK}|{OVERRIDDEN}|{GATE}) (?P<time>\d{{4}}-\d\d-\d\dT[\d:.]+Z)"
)
_GATE = re.compile(
    r"(?P<outcome>passed|failed) by gates (?P<gates>[0-9a-f]{64}) of model (?P<model>[0-9a-f]{64}), "
    r"run (?P<run>[0-9a-z-]+)"
)
_SHORT = 12


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened to a version, with its reason."""

    time: str
    action: str
    reason: str

    def to_json(self) -> dict[str, str]:
        return {"time": self.time, "action": self.action, "reason": self.reason}


@dataclass(frozen=True, slots=True)
class GateRecord:
    """How one run of the gates ended.

    Attributes
    ----------
    gates : str
        SHA-256 of what was demanded: `training.lifecycle.gate_file.Gates.digest`.
    manifest_digest : str
        Of the artifact that was measured.
    run_id : str
        MLflow run with every figure.
    """

    passed: bool
    gates: str
    manifest_digest: str
    run_id: str

    def __str__(self) -> str:
        outcome = "passed" if self.passed else "failed"
        return f"{outcome} by gates {self.gates} of model {self.manifest_digest}, run {self.run_id}"

    @classmethod
    def parse(cls, text: str) -> GateRecord | None:
        """What `str` gave; None for anything else."""
        found = _GATE.fullmatch(text)
        if found is None:
            return None
        return cls(found["outcome"] == "passed", found["gates"], found["model"], found["run"])


def record_event(registry: RegistryClient, name: str, version: str, action: str, reason: str) -> None:
    """Note with a version that `action` happens to it now."""
    now = datetime.now(UTC).isoformat(timespec="microseconds").removesuffix("+00:00")
    registry.set_tag(name, version, f"{action} {now}Z", reason.strip())


def note_gate(name: str, version: str, gate: GateRecord) -> None:
    """Note with a version how its gates ended."""
    record_event(open_registry(), name, version, GATE, str(gate))


def is_event(key: str) -> bool:
    """Whether the tag `key` is an event."""
    return _EVENT.fullmatch(key) is not None


def events_of(tags: Mapping[str, str]) -> tuple[Event, ...]:
    """The events among the tags of a version, oldest first."""
    found = [(parts, why) for key, why in tags.items() if (parts := _EVENT.fullmatch(key)) is not None]
    events = [Event(parts["time"], parts["action"], why) for parts, why in found]
    return tuple(sorted(events, key=lambda event: event.time))


def require_gate(whose: str, manifest_digest: str, events: Sequence[Event], gates: str | None) -> None:
    """`NotGated` unless the newest run of the gates passed, on these bytes.

    Parameters
    ----------
    whose : str
        Name and version, for the error.
    gates : str or None
        SHA-256 of the gates that must have been passed; None: any.
    """
    runs = [event for event in events if event.action == GATE]
    found = GateRecord.parse(runs[-1].reason) if runs else None
    if found is None:
        raise NotGated(f"{whose}: has passed no gate; {_HOW}")
    if found.manifest_digest != manifest_digest:
        raise NotGated(f"{whose}: its gate measured another artifact ({found.manifest_digest[:_SHORT]}); {_HOW}")
    if gates is not None and found.gates != gates:
        raise NotGated(
            f"{whose}: its newest gate was by other gates ({found.gates[:_SHORT]}) than are demanded "
            f"({gates[:_SHORT]}); {_HOW}"
        )
    if not found.passed:
        raise NotGated(f"{whose}: its newest gate failed, MLflow run {found.run_id}; {_HOW}")


_HOW = "consilium gate measures it, and --override with a reason promotes it without"
