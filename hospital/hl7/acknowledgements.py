"""What a sender is answered: the original and the enhanced acknowledgement mode.

Source: HL7 v2.5.1, 2.9.2 (rules), 2.15.8 (MSA), 2.15.5 (ERR), tables 0008, 0155 and 0357.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from hospital.hl7.messages import Message, Segment, escaped

SEPARATORS = "|^~\\&"
OUR_NAME = "CONSILIUM"
_CONTROL_ID_CHARACTERS = 20
_VERSION = "2.5.1"


class Verdict(StrEnum):
    """Second letter of the acknowledgement code."""

    ACCEPT = "A"
    """It is stored."""
    ERROR = "E"
    """Its content cannot be used; sent again it would be answered the same."""
    REJECT = "R"
    """It is not for us, or cannot be stored now."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a message.

    Attributes
    ----------
    code : int
        Of table 0357: 0 accepted, 101 required field missing, 102 data type error, 200 unsupported message type, 202
        unsupported processing id, 207 internal error.
    text : str
        For a person, without anything of the patient.
    """

    verdict: Verdict
    code: int = 0
    text: str = ""


ACCEPTED = Outcome(Verdict.ACCEPT)
_MEANINGS = {
    100: "Segment sequence error",
    101: "Required field missing",
    102: "Data type error",
    103: "Table value not found",
    200: "Unsupported message type",
    202: "Unsupported processing id",
    207: "Application internal error",
}


def control_id() -> str:
    """A message control id (MSH-10) that is used once."""
    return uuid.uuid4().hex[:_CONTROL_ID_CHARACTERS].upper()


def timestamp(moment: datetime) -> str:
    """A time with its offset (TS)."""
    return moment.strftime("%Y%m%d%H%M%S%z")


def acknowledgement(message: Message | None, outcome: Outcome, now: datetime) -> bytes | None:
    """The answer to a message, None where it asks for none; `message` is None where its header cannot be read."""
    header = message.header if message else None
    mode = _mode(header, outcome.verdict)
    if mode is None:
        return None
    version = (header.text(12) if header else "") or _VERSION
    segments = [_header(header, version, now), _answer(header, mode, outcome)]
    if outcome.verdict is not Verdict.ACCEPT and version >= "2.5":
        meaning = _MEANINGS[outcome.code]
        segments.append(f"ERR|||{outcome.code}^{meaning}^HL70357|E||||{escaped(outcome.text)}")
    return ("\r".join(segments) + "\r").encode()


def _mode(header: Segment | None, verdict: Verdict) -> str | None:
    """First letter of the code: A in the original mode, C in the enhanced; None where the sender wants no answer."""
    accept, application = (header.text(15), header.text(16)) if header else ("", "")
    if not accept and not application:
        return "A"
    wanted = {"AL", "SU" if verdict is Verdict.ACCEPT else "ER"}
    return next((letter for asked, letter in ((accept, "C"), (application, "A")) if asked in wanted), None)


def _header(header: Segment | None, version: str, now: datetime) -> str:
    """Ours: the sender becomes the receiver; its trigger event, processing id and version are echoed."""
    names = [_hierarchic(header, field) if header else "" for field in (5, 6, 3, 4)]
    names[0] = names[0] or OUR_NAME
    event = header.text(9, 2) if header else ""
    kind = "^".join(["ACK", escaped(event), *(["ACK"] if event and version >= "2.4" else [])] if event else ["ACK"])
    mode = (header.text(11) if header else "") or "P"
    fields = ["MSH", "^~\\&", *names, timestamp(now), "", kind, control_id(), escaped(mode), escaped(version)]
    return "|".join([*fields, "", "", "", "", "", "UNICODE UTF-8"])


def _hierarchic(header: Segment, field: int) -> str:
    """A name of an application or facility (HD), as it came."""
    parts = [escaped(header.text(field, component)) for component in (1, 2, 3)]
    return "^".join(parts).rstrip("^")


def _answer(header: Segment | None, mode: str, outcome: Outcome) -> str:
    control = escaped(header.text(10)) if header else ""
    return f"MSA|{mode}{outcome.verdict}|{control}|{escaped(outcome.text)}".rstrip("|")


@dataclass(frozen=True, slots=True)
class Answer:
    """What a receiver answered to a message of ours."""

    code: str
    control_id: str
    error_code: str = ""
    text: str = ""

    @classmethod
    def of(cls, message: Message) -> Answer | None:
        """The acknowledgement that `message` is; None where it is none."""
        answer, error = message.first("MSA"), message.first("ERR")
        if answer is None:
            return None
        code = (error.text(3) if error else "") or answer.text(6)
        return cls(answer.text(1), answer.text(2), code, (error.text(8) if error else "") or answer.text(3))

    @property
    def accepted(self) -> bool:
        return self.code in ("AA", "CA")

    @property
    def may_pass_later(self) -> bool:
        """Rejected for a reason that is none of the message's own: tables 0008 and 0357, 206 and above."""
        return self.code in ("AR", "CR") and (not self.error_code or self.error_code >= "206")
