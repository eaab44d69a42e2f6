"""Answers as columns: what every part of monitoring computes from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt

from consilium.domain.diagnosis import ABSENT, PRESENT
from consilium.monitoring.categories import PRESENT as PRESENT_PREFIX
from consilium.monitoring.monitored_answer import MonitoredAnswer
from consilium.monitoring.reference import MonitoringReference

Floats = npt.NDArray[np.float64]
NOT_GIVEN = ""
"""The category of answers that lack one."""
OF_THE_SERVICE = ("device", "site")
"""Categories that only the service knows: keyed hashes."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Which columns the answers of a model have; fixed when it is trained, so that it says nothing of the answers.

    Attributes
    ----------
    parts : dict of str to int
        Directions of the projection of each modality and of ``fused``.
    """

    findings: tuple[str, ...]
    modalities: tuple[str, ...]
    parts: dict[str, int]
    categories: tuple[str, ...]

    @classmethod
    def of(cls, reference: MonitoringReference) -> Layout:
        counted = [name for name in reference.counts if not name.startswith(PRESENT_PREFIX)]
        return cls(
            findings=tuple(reference.log_odds),
            modalities=tuple(name.removeprefix(PRESENT_PREFIX) for name in reference.counts if name not in counted),
            parts={part: int(one.weights.shape[1]) for part, one in reference.projections.items()},
            categories=tuple(sorted({*counted, *OF_THE_SERVICE})),
        )


@dataclass(frozen=True, slots=True, eq=False)
class AnswerTable:
    """N answers, oldest first.

    Attributes
    ----------
    keys : str [N]
        Result ids.
    times : float [N]
        Seconds since 1970, UTC.
    patients : str [N]
        Pseudonyms; empty where not known.
    findings : tuple of str, [F]
    probabilities : float [N, F]
    sets : int8 [N, F, 2]
        Whether (absent, present) is in the prediction set.
    referred : bool [N]
    present : dict of modality to bool [N]
    p_values : dict of part to float [N]
        NaN where the study lacks the part.
    projections : dict of part to float [N, D]
        Likewise.
    categories : dict of name to str [N]
    labels, known_at : float [N, F]
        1 present, 0 absent, NaN not confirmed; and when it became known, seconds.
    influenced : float [N, F]
        1: whoever confirmed it had seen the answer; 0: had not; NaN: not known.
    """

    keys: npt.NDArray[np.str_]
    times: Floats
    patients: npt.NDArray[np.str_]
    findings: tuple[str, ...]
    probabilities: Floats
    sets: npt.NDArray[np.int8]
    referred: npt.NDArray[np.bool_]
    present: dict[str, npt.NDArray[np.bool_]]
    p_values: dict[str, Floats]
    projections: dict[str, Floats]
    categories: dict[str, npt.NDArray[np.str_]]
    labels: Floats
    known_at: Floats
    influenced: Floats

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def patients_or_keys(self) -> npt.NDArray[np.str_]:
        """Of each answer the patient, [N]; one of its own where that is not known."""
        return np.where(self.patients == "", self.keys, self.patients)

    def select(self, rows: npt.NDArray) -> AnswerTable:
        """The answers at `rows`, indices or a mask [N]."""
        chosen: dict[str, object] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, dict):
                chosen[field.name] = {name: column[rows] for name, column in value.items()}
            else:
                chosen[field.name] = value if field.name == "findings" else value[rows]
        return AnswerTable(**chosen)  # type: ignore[arg-type]

    def between(self, since: float, until: float) -> AnswerTable:
        """Those given from `since` on and before `until`, seconds."""
        return self.select((self.times >= since) & (self.times < until))

    def first_of_each_patient(self) -> AnswerTable:
        """Without the later answers about a patient who is known: they are no independent evidence of a change."""
        return self.select(np.sort(np.unique(self.patients_or_keys, return_index=True)[1]))

    @classmethod
    def of(cls, answers: Iterable[MonitoredAnswer], layout: Layout) -> AnswerTable:
        """The table of `answers` in the columns of `layout`."""
        ordered = sorted(answers, key=lambda one: (one.time, one.result_id))
        N, F = len(ordered), len(layout.findings)
        outcomes = np.array([_outcomes(one, layout.findings) for one in ordered], np.float64).reshape(N, 3, F)
        return cls(
            keys=np.array([str(one.result_id) for one in ordered], np.str_),
            times=np.array([_seconds(one.time) for one in ordered], np.float64),
            patients=np.array([one.patient or "" for one in ordered], np.str_),
            findings=layout.findings,
            probabilities=np.array(
                [[one.probabilities.get(name, np.nan) for name in layout.findings] for one in ordered], np.float64
            ).reshape(N, F),
            sets=np.array([_sets(one, layout.findings) for one in ordered], np.int8).reshape(N, F, 2),
            referred=np.array([one.referred for one in ordered], bool),
            present={name: np.array([name in one.present for one in ordered], bool) for name in layout.modalities},
            p_values={
                part: np.array([one.p_values.get(part, np.nan) for one in ordered], np.float64) for part in layout.parts
            },
            projections={part: _projections(ordered, part, width) for part, width in layout.parts.items()},
            categories={
                name: np.array([one.categories.get(name, NOT_GIVEN) for one in ordered], np.str_)
                for name in layout.categories
            },
            labels=outcomes[:, 0],
            known_at=outcomes[:, 1],
            influenced=outcomes[:, 2],
        )


def _sets(answer: MonitoredAnswer, findings: Sequence[str]) -> list[list[bool]]:
    return [[one in answer.prediction_sets.get(finding, ()) for one in (ABSENT, PRESENT)] for finding in findings]


def _projections(answers: Sequence[MonitoredAnswer], part: str, width: int) -> Floats:
    """Those of another number of directions are another model's, and refused by numpy."""
    none = (np.nan,) * width
    return np.array([one.projections.get(part, none) for one in answers], np.float64).reshape(len(answers), width)


def _outcomes(answer: MonitoredAnswer, findings: Sequence[str]) -> list[list[float]]:
    """Label, when it became known and whether it is influenced, of each finding; the latest outcome counts."""
    latest: Mapping[str, list[float]] = {
        one.finding: [
            {PRESENT: 1.0, ABSENT: 0.0}.get(one.state, np.nan),
            _seconds(one.time),
            np.nan if one.influenced is None else float(one.influenced),
        ]
        for one in sorted(answer.outcomes, key=lambda one: one.time)
    }
    rows = [latest.get(finding, [np.nan] * 3) for finding in findings]
    return [list(column) for column in zip(*rows, strict=True)]


def _seconds(time: datetime) -> float:
    return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()
