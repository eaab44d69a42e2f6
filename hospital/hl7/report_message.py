"""A result as an ORU^R01 message: of each finding whether it is present, and its probability; never more than P.

What was sent for the wrong patient is sent again with status W ("post original as wrong", table 0085).

Source: HL7 v2.5.1, 7.3.1 (ORU), 7.4.1 (OBR), 7.4.2 (OBX), 2.9.2 (enhanced acknowledgement). Values of one finding share
the sub-identifier of OBX-4.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime

from consilium.output.labels import percent
from consilium.output.reported import DISCLAIMER, Presence, ReportedFinding, ReportedStudy
from hospital.hl7.acknowledgements import timestamp
from hospital.hl7.messages import escaped

_PRESENCE = {
    Presence.PRESENT: "52101004^Present^SCT",
    Presence.ABSENT: "2667000^Absent^SCT",
    Presence.UNDETERMINED: "373068000^Undetermined^SCT",
}
_PROBABILITY = "122157^Probability^DCM"
_COMMENT = "121106^Comment^DCM"
_STUDY = "110180^Study Instance UID^DCM"
_CONTROL_ID = 20
WITHDRAWN = "Withdrawn: this result was sent for the wrong patient, or to another patient's order. Do not use it."


@dataclass(frozen=True, slots=True)
class ReportMessage:
    """What a message says.

    Attributes
    ----------
    patient, authority : str
        PID-3: the identifier, and the namespace of who issued it.
    name : str
        PID-5, as DICOM writes it.
    placer, filler, accession : str
        Of the order that the study answers; empty where not known.
    taken : datetime or None
        When the images were made.
    application, facility : str
        Of the receiver.
    number : int
        Of the study's revisions, from 1: a later one corrects the former.
    withdrawn : bool
        It takes back what was sent for the wrong patient or order.
    """

    reported: ReportedStudy
    study: str
    patient: str = field(repr=False)
    authority: str
    created: datetime
    name: str = field(default="", repr=False)
    birth_date: str = field(default="", repr=False)
    sex: str = ""
    placer: str = field(default="", repr=False)
    filler: str = field(default="", repr=False)
    accession: str = field(default="", repr=False)
    taken: datetime | None = None
    application: str = ""
    facility: str = ""
    number: int = 1
    withdrawn: bool = False

    @property
    def control_id(self) -> str:
        """MSH-10: the same for the same revision, so that a receiver knows a message that is sent again."""
        if self.withdrawn:
            return hashlib.sha256(f"withdrawn {self.reported.revision}".encode()).hexdigest()[:_CONTROL_ID]
        return self.reported.revision[:_CONTROL_ID]

    def content(self) -> bytes:
        """The message, in UTF-8."""
        segments = [self._header(), self._patient(), self._order(), self._request(), *self._results()]
        return ("\r".join(segments) + "\r").encode()

    def _header(self) -> str:
        receiver = f"{escaped(self.application)}|{escaped(self.facility)}"
        kind = "ORU^R01^ORU_R01"
        made = timestamp(self.created)
        return f"MSH|^~\\&|CONSILIUM||{receiver}|{made}||{kind}|{self.control_id}|P|2.5.1|||AL|NE||UNICODE UTF-8"

    def _patient(self) -> str:
        name = "^".join(escaped(part) for part in self.name.partition("=")[0].split("^"))
        identifier = f"{escaped(self.patient)}^^^{escaped(self.authority)}^MR"
        return f"PID|1||{identifier}||{name}||{escaped(self.birth_date)}|{escaped(self.sex)}".rstrip("|")

    def _order(self) -> str:
        return f"ORC|RE|{escaped(self.placer)}|{escaped(self.filler)}".rstrip("|")

    def _request(self) -> str:
        """OBR-18 carries the accession number, OBR-22 when this was made, OBR-25 that it is preliminary."""
        taken = "" if self.taken is None else timestamp(self.taken)
        fields = {
            1: "1",
            2: escaped(self.placer),
            3: escaped(self.filler) or self.reported.revision[:_CONTROL_ID],
            4: "18748-4^Diagnostic imaging study^LN",
            7: taken,
            18: escaped(self.accession),
            22: timestamp(self.created),
            24: "RAD",
            25: "C" if self.withdrawn else "P",
        }
        return "|".join(["OBR", *(fields.get(number, "") for number in range(1, 26))])

    def _results(self) -> Iterator[str]:
        rows: list[tuple[str, str, str, str, str]] = [("ST", _STUDY, "", self.study, "")]
        for group, finding in enumerate(self.reported.findings, 1):
            rows += _finding_rows(finding, str(group))
        lines = [WITHDRAWN] if self.withdrawn else _lines(self.reported, self.number)
        rows += [("TX", _COMMENT, "", escaped(line), "") for line in lines]
        status = "W" if self.withdrawn else "P"
        for position, (kind, code, part, value, unit) in enumerate(rows, 1):
            yield f"OBX|{position}|{kind}|{code}|{part}|{value}|{unit}|||||{status}|||{timestamp(self.created)}"


def _finding_rows(finding: ReportedFinding, group: str) -> Iterator[tuple[str, str, str, str, str]]:
    scheme = "SCT" if finding.code else "99CONSILIUM"
    concept = f"{escaped(finding.code or finding.name)}^{escaped(finding.display)}^{scheme}"
    yield "CWE", concept, group, _PRESENCE[finding.presence], ""
    yield "NM", _PROBABILITY, group, f"{finding.probability:g}", "1"
    for reason in finding.refer_reasons:
        yield "TX", _COMMENT, group, escaped(f"{finding.display}: assess without the model. {reason}"), ""


def _lines(reported: ReportedStudy, number: int) -> Iterator[str]:
    """What a reader must know, referral first."""
    for reason in reported.refer_reasons:
        yield f"Referred: assess this study without the model. {reason}"
    yield DISCLAIMER
    if number > 1:
        yield f"Revision {number}: it takes the place of the former."
    for target in reported.targets:
        bars = ", ".join(f"{name} {percent(probability)}" for name, probability in target.bars)
        yield f"{target.display}: {target.answer} ({target.detail}); {bars}"
    yield from reported.remarks
    yield f"{reported.model.name}, version {reported.model.version}"
