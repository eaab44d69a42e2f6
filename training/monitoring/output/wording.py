"""What the monitor's tests and alarms are called, for those who read them."""

from __future__ import annotations

from datetime import UTC, datetime

from consilium.domain.findings import FindingSet
from consilium.modalities.registry import modality_names
from consilium.network.diagnosis_model import FUSED
from consilium.output.labels import part_in_words
from training.monitoring.alarm_state import Alarm

_BEFORE = "than in the answers before"
_HELD_OUT = "than in the studies held out of training"
_SENTENCES = {
    "probability": "the probability of {} is distributed otherwise " + _BEFORE,
    "typicality": "how unusual the input is ({}) is distributed otherwise " + _BEFORE,
    "features": "features of the {} are distributed otherwise " + _BEFORE,
    "presence": "studies have the {} more or less often " + _BEFORE,
    "referral": "studies are referred more or less often " + _BEFORE,
    "category": "{} is distributed otherwise " + _BEFORE,
    "held-out probability": "the probability of {} is distributed otherwise " + _HELD_OUT,
    "held-out features": "features of the {} are distributed otherwise " + _HELD_OUT,
    "calibration": "{} is confirmed more or less often than its probabilities say",
}


def subject(kind: str, label: str, findings: FindingSet) -> str:
    """What a test watches, in words: a finding's display, a part's name."""
    displays = {finding.name: finding.display for finding in findings}
    if label in displays:
        return displays[label]
    part, _, direction = label.partition(" ")
    if part in {FUSED, *modality_names()}:
        return part_in_words(part).lower() + (f", direction {direction}" if direction else "")
    if kind == "category":
        name, _, code = label.partition(":")
        return f"{name} of {code}" if code else name.replace("_", " ")
    return label


def name_of_test(kind: str, label: str, findings: FindingSet) -> str:
    """As a table's cell has it."""
    return f"{kind}: {subject(kind, label, findings)}" if label else kind


def alarm_sentence(alarm: Alarm, findings: FindingSet) -> str:
    """What has happened, since when, and how strong the evidence is."""
    what = _SENTENCES[alarm.kind].format(subject(alarm.kind, alarm.label, findings))
    return f"Since {alarm.since}: {what}; evidence {alarm.e_value:.2g}, alarm from {1 / alarm.alpha:.0f}."


def date_of(seconds: float) -> str:
    """As 2026-11-30, UTC."""
    return datetime.fromtimestamp(seconds, UTC).date().isoformat()


def time_of(seconds: float) -> str:
    """As 2026-11-30T12:00:00+00:00."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
