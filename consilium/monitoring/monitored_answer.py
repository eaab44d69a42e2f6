"""One answer as monitoring sees it: what the service kept beside its audit entry, and what was confirmed later."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

State = Literal["present", "absent", "unknown"]
Source = Literal["feedback", "import"]


@dataclass(frozen=True, slots=True)
class ConfirmedOutcome:
    """What a finding of one answer turned out to be.

    Attributes
    ----------
    time : datetime
        When it became known, UTC.
    source : {"feedback", "import"}
        A reader of the answer, or a file of outcomes.
    influenced : bool or None
        Whoever confirmed it had seen the model's answer before; None where that is not known.
    """

    finding: str
    state: State
    time: datetime
    source: Source
    influenced: bool | None = None


@dataclass(frozen=True, slots=True, eq=False)
class MonitoredAnswer:
    """One answer, without anything that names or shows a patient.

    Attributes
    ----------
    time : datetime
        When it was given, UTC.
    role : str
        Of the model that answered: ``serving``, ``canary`` or ``shadow``.
    probabilities : mapping of str to float
        Calibrated, by finding.
    prediction_sets : mapping of str to tuple of str
        By finding.
    referred : bool
        The study, or one of its findings, has a reason to refer.
    present : frozenset of str
        Modalities that the study had.
    p_values : mapping of str to float
        Of the out-of-distribution scores, by part: each present modality and ``fused``.
    projections : mapping of str to tuple of float
        By part, the pooled features in the few random directions of the artifact's monitoring reference.
    categories : mapping of str to str
        What answers are grouped by: ``sex``, ``age_band``, ``unit:<variable>``, and keyed hashes of ``device`` and
        ``site``.
    patient : str or None
        Pseudonym: groups the answers about one patient.
    outcomes : tuple of ConfirmedOutcome
        Oldest first; a later one of the same finding and source replaces an earlier one.
    """

    result_id: UUID
    time: datetime
    role: str
    model_name: str
    model_version: str
    manifest_digest: str
    probabilities: Mapping[str, float]
    prediction_sets: Mapping[str, tuple[str, ...]]
    referred: bool
    present: frozenset[str]
    p_values: Mapping[str, float]
    projections: Mapping[str, tuple[float, ...]]
    categories: Mapping[str, str]
    latency_ms: float
    patient: str | None = None
    outcomes: tuple[ConfirmedOutcome, ...] = ()
