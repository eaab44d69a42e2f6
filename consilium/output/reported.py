"""What is reported of a diagnosis: one object, of which every format that leaves for a hospital is written.

A structured report and a FHIR bundle of one study hold the same numbers and the same answers: both are made of it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from consilium.domain.diagnosis import PRESENT, Diagnosis, FindingResult, ModelIdentity
from consilium.output.labels import TargetInWords, audit_in_words, targets_in_words

DISCLAIMER = "Decision support. Not for primary diagnosis."
_DECIMALS = 6


class Presence(StrEnum):
    """The answer for a finding."""

    PRESENT = "present"
    ABSENT = "absent"
    UNDETERMINED = "undetermined"


@dataclass(frozen=True, slots=True)
class ReportedFinding:
    """The answer for one finding.

    Attributes
    ----------
    name, display : str
    code : str or None
        SNOMED CT concept, where there is one.
    probability : float
        To six decimals, as are those of `interval`.
    interval : (float, float)
    presence : Presence
        Undetermined where the finding or the study is referred, or the prediction set has not exactly one member.
    called : bool
    threshold : float
        Probability from which the finding is called.
    refer_reasons : tuple of str
        The finding's own; empty: none.
    """

    name: str
    display: str
    code: str | None
    probability: float
    interval: tuple[float, float]
    presence: Presence
    called: bool
    threshold: float
    refer_reasons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ReportedStudy:
    """What is reported of one study.

    Attributes
    ----------
    revision : str
        SHA-256, in hex, of what the answer was made of; another revision supersedes this one.
    model : ModelIdentity
    findings : tuple of ReportedFinding
    refer_reasons : tuple of str
        Why the study as a whole is referred; empty: it is not.
    remarks : tuple of str
        What the reader must know of the input and of the model.
    targets : tuple of TargetInWords
        Grades and times to an event.
    """

    revision: str
    model: ModelIdentity
    findings: tuple[ReportedFinding, ...]
    refer_reasons: tuple[str, ...]
    remarks: tuple[str, ...]
    targets: tuple[TargetInWords, ...] = ()

    @property
    def referred(self) -> bool:
        return bool(self.refer_reasons)

    def uid(self, *kind: str) -> str:
        """The UID of one thing of this revision, the same each time: ``uid("sr")``, ``uid("finding", "effusion")``."""
        return derived_uid(self.revision, *kind)


def reported_study(diagnosis: Diagnosis, revision: str) -> ReportedStudy:
    """What is reported of `diagnosis`, the answer for `revision` of its study."""
    audit = audit_in_words(diagnosis.audit.verdict)
    return ReportedStudy(
        revision=revision,
        model=diagnosis.model,
        findings=tuple(_finding(result, referred=bool(diagnosis.refer_reasons)) for result in diagnosis.findings),
        refer_reasons=diagnosis.refer_reasons,
        remarks=(*([f"{audit}."] if audit else []), *diagnosis.warnings),
        targets=tuple(targets_in_words(diagnosis)),
    )


def _finding(result: FindingResult, *, referred: bool) -> ReportedFinding:
    low, high = result.interval
    return ReportedFinding(
        name=result.finding,
        display=result.display,
        code=result.code,
        probability=round(result.probability, _DECIMALS),
        interval=(round(low, _DECIMALS), round(high, _DECIMALS)),
        presence=_presence(result, referred=referred),
        called=result.call,
        threshold=round(result.operating_point.threshold, _DECIMALS),
        refer_reasons=result.refer_reasons,
    )


def _presence(result: FindingResult, *, referred: bool) -> Presence:
    if referred or result.refer_reasons or len(result.prediction_set) != 1:
        return Presence.UNDETERMINED
    return Presence.PRESENT if result.prediction_set[0] == PRESENT else Presence.ABSENT


def revision_of(diagnosis: Diagnosis, instances: Iterable[tuple[str, str]]) -> str:
    """The revision of an answer: SHA-256, in hex, of its sources, its model and what it says.

    Parameters
    ----------
    instances : iterable of (str, str)
        SOP Instance UID and digest of the data set of each image: a file's own digest differs between the ways that it
        came by.
    """
    reported = reported_study(diagnosis, "")
    records = sorted(digest for place, digest in diagnosis.input_digests.items() if not place.startswith("images["))
    answers = [[one.name, one.probability, *one.interval, one.presence, one.called] for one in reported.findings]
    remarked = [reported.refer_reasons, reported.remarks, reported.targets]
    whole = [sorted(instances), records, diagnosis.model.manifest_digest, answers, remarked]
    return hashlib.sha256(json.dumps(whole, separators=(",", ":")).encode()).hexdigest()


def device_uid(model: ModelIdentity) -> str:
    """Of the model, by its manifest: another model is another device."""
    return derived_uid("device", model.manifest_digest)


def derived_uid(*parts: str) -> str:
    """A UID of a UUID (PS3.5 B.2) that is the same for the same `parts`."""
    digest = hashlib.sha256("\0".join(parts).encode()).digest()
    return f"2.25.{UUID(bytes=digest[:16], version=5).int}"
