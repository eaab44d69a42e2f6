"""One frame becomes rows and an acknowledgement. What is acknowledged is on the disk."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime

import structlog

from consilium.domain.errors import InputError
from hospital.hl7.acknowledgements import ACCEPTED, Outcome, Verdict, acknowledgement
from hospital.hl7.messages import Message, parse, parse_header
from hospital.hl7.mllp import Frame
from hospital.hl7.orders import read_orders
from hospital.hl7.patients import MERGES, UPDATES, read_merges, read_update
from hospital.hl7.results import Earlier, read_results
from hospital.hl7.source import Source
from hospital.store.clock import Clock, system_clock
from hospital.store.received import Inbox, RawMessage, Received, StoreFull, StoreUnavailable

_LOG = structlog.get_logger("hospital.hl7")
_TAKEN = {"ORM": frozenset({"O01"}), "OMG": frozenset({"O19"}), "OMI": frozenset({"O23"}), "ORU": frozenset({"R01"})}
_NOT_NOW = Outcome(Verdict.REJECT, 207, "cannot be stored now, send it again later")
_PRODUCTIVE = "P"
_CODES = frozenset({"ADT", *_TAKEN})


@dataclass(frozen=True, slots=True)
class Reading:
    """What is taken from a message.

    Attributes
    ----------
    problem : str, optional
        Why not all of it is, for the list of messages that a person should look at.
    """

    records: tuple[Received, ...] = ()
    problem: str | None = None


class Unsupported(InputError):
    """A kind of message that the gateway has no use for."""


def read(message: Message, content: bytes, source: Source, received: datetime, earlier: Earlier) -> Reading:
    """The records of a message.

    Registration events that change no patient hold none: whoever forwards them all is not to be stopped.

    Raises
    ------
    Unsupported
        Another kind of message.
    InputError
        What it should hold is not there.
    """
    code, event = message.kind
    if code == "ADT":
        return _registration(message, event, source, received)
    if event not in _TAKEN.get(code, ()):
        raise Unsupported("MSH-9", f"{code}^{event}", f"must be one of ADT, {', '.join(sorted(_TAKEN))}")
    if code != "ORU":
        return Reading(tuple(read_orders(message, source, received)))
    found = read_results(message, content, source, received, earlier)
    problem = None if found.values or found.texts or found.unfinished else "it holds no result"
    return Reading((*found.values, *found.texts), problem)


def _registration(message: Message, event: str, source: Source, received: datetime) -> Reading:
    if event in MERGES:
        merges, warnings = read_merges(message, source, received)
        return Reading(tuple(merges), "; ".join(warnings) or None)
    return Reading((read_update(message, source, received),) if event in UPDATES else ())


def nothing_earlier(*_: object) -> None:
    """For a source of which nothing was received before."""


@dataclass
class Receiver:
    """What the frames of one sender become.

    Attributes
    ----------
    inbox : Inbox
        Several connections use it at once.
    earlier : callable
        See `hospital.hl7.results.Earlier`.
    productive : bool
        Whether test and training messages (MSH-11) are refused.
    counts : Counter
        Messages by kind and verdict, for the metrics.
    """

    source: Source
    inbox: Inbox
    earlier: Earlier = nothing_earlier
    clock: Clock = system_clock
    productive: bool = True
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)

    def receive(self, frame: Frame) -> bytes | None:
        """Store a message and answer it; None where its sender wants no answer. Blocks until it is on the disk."""
        now = self.clock()
        header: Message | None = None
        try:
            header = parse_header(frame.content)
            outcome = self._outcome(frame, header, now)
        except (StoreFull, StoreUnavailable):
            outcome = _NOT_NOW
        except InputError as error:
            outcome = Outcome(Verdict.REJECT, 102, without_value(error))
        except Exception as error:  # noqa: BLE001 -- a fault of ours on one message must not keep the next from an answer
            _LOG.error("message failed", source=self.source.name, error=type(error).__name__)
            outcome = Outcome(Verdict.REJECT, 207, "internal error")
        self._count(header, outcome)
        return acknowledgement(header, outcome, now)

    def _outcome(self, frame: Frame, header: Message, now: datetime) -> Outcome:
        if not frame.whole:
            return Outcome(Verdict.REJECT, 102, "it is longer than the limit")
        if self.productive and header.header.text(11) not in (_PRODUCTIVE, ""):
            return Outcome(Verdict.REJECT, 202, "test and training messages are not taken here")
        try:
            message = parse(frame.content, self.source.encoding)
            reading = read(message, frame.content, self.source, now, self.earlier)
        except Unsupported as error:
            return Outcome(Verdict.REJECT, 200, without_value(error))
        except InputError as error:
            self._add(frame.content, header, now, Reading(problem=without_value(error)), kept_as="refused")
            return Outcome(Verdict.ERROR, 101 if error.value == "" else 102, without_value(error))
        for warning in message.warnings:
            _LOG.info("message read with a doubt", source=self.source.name, doubt=warning)
        if reading.records or reading.problem:
            self._add(frame.content, header, now, reading)
        return ACCEPTED

    def _add(self, content: bytes, header: Message, now: datetime, reading: Reading, kept_as: str = "taken") -> None:
        """Store it, once however often it is sent: counters of control ids start anew, so the content counts too."""
        sender = (header.header.text(field) for field in (3, 4, 10))
        key = "|".join([kept_as, *sender, hashlib.sha256(content).hexdigest()])
        self.inbox.add(*reading.records, raw=RawMessage("hl7", key, content, now, self.source.name, reading.problem))

    def _count(self, header: Message | None, outcome: Outcome) -> None:
        code = header.kind[0] if header else ""
        self.counts[code if code in _CODES else "other", outcome.verdict.name.lower()] += 1
        if outcome.verdict is not Verdict.ACCEPT:
            _LOG.warning("message refused", source=self.source.name, code=outcome.code, reason=outcome.text)


def without_value(error: InputError) -> str:
    """What is wrong, without what was sent."""
    return f"{error.field} {error.rule}"
