"""What the audit log shows of a version on its way, beside the serving one, since its stage began."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from statistics import median

from sqlalchemy import ColumnElement, and_

from consilium.api.schemas import ResultAnswer
from service.audit_log.pseudonyms import AuditLogKeys
from service.audit_log.tables import ResultRow
from service.serving.served_model import Role

_DIAGNOSE = "diagnose"
"""The stage of an answer in which the model works."""


@dataclass(frozen=True, slots=True)
class AnsweredSince:
    """Answers of all versions of a model from a moment on; a `service.audit_log.store.Criterion`."""

    name: str
    since: datetime

    def where(self, _: AuditLogKeys) -> ColumnElement[bool]:
        return and_(ResultRow.model_name == self.name, ResultRow.time >= self.since)


@dataclass(slots=True)
class Arm:
    """One version's answers.

    Attributes
    ----------
    confirmed, wrong : int
        Calls of findings of which the truth is known, and those that it contradicts.
    """

    answers: int = 0
    referred: int = 0
    confirmed: int = 0
    wrong: int = 0
    milliseconds: list[float] = field(default_factory=list)

    def add(self, answer: ResultAnswer, truth: dict[str, bool]) -> None:
        self.answers += 1
        self.referred += bool(answer.refer_reasons)
        known = [(finding.call, truth[finding.finding]) for finding in answer.findings if finding.finding in truth]
        self.confirmed += len(known)
        self.wrong += sum(call != present for call, present in known)
        if _DIAGNOSE in answer.latencies_ms:
            self.milliseconds.append(answer.latencies_ms[_DIAGNOSE])

    @property
    def median_ms(self) -> float | None:
        return median(self.milliseconds) if self.milliseconds else None


@dataclass(frozen=True, slots=True)
class Evidence:
    """Both versions, and on how many studies that both answered they call the same findings."""

    serving: Arm
    candidate: Arm
    pairs: int = 0
    agreeing: int = 0


def gather(answers: Iterable[ResultAnswer], version: str, role: str) -> Evidence:
    """Compare the answers of `version` in `role` with the serving model's.

    A shadow answers what the serving model answers, under the same request: what was confirmed of the one answer holds
    for the other.
    """
    serving, candidate = Arm(), Arm()
    served: dict[str, ResultAnswer] = {}
    shadowed: list[ResultAnswer] = []
    for answer in answers:
        if answer.role == Role.SERVING and answer.model.version != version:
            served[answer.request_id] = answer
            serving.add(answer, answer.confirmed)
        elif answer.role == role and answer.model.version == version:
            if role == Role.SHADOW:
                shadowed.append(answer)
            else:
                candidate.add(answer, answer.confirmed)
    pairs = [(served[one.request_id], one) for one in shadowed if one.request_id in served]
    for one in shadowed:
        peer = served.get(one.request_id)
        candidate.add(one, {} if peer is None else peer.confirmed)
    return Evidence(serving, candidate, len(pairs), sum(_calls(one) == _calls(other) for one, other in pairs))


def _calls(answer: ResultAnswer) -> dict[str, bool]:
    return {finding.finding: finding.call for finding in answer.findings}
