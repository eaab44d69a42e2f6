"""A message that is in the store, read again: with the tables, issuers and places that gateway.yaml has now."""

from __future__ import annotations

from dataclasses import dataclass

from consilium.domain.errors import InputError
from hospital.configuration.gateway_settings import GatewaySettings
from hospital.hl7.messages import parse
from hospital.hl7.receiving import Reading, read, without_value
from hospital.running.hl7_parts import EarlierValues, hl7_source
from hospital.store.gateway_store import Store


@dataclass(frozen=True, slots=True)
class Replayed:
    """What a message gave.

    Attributes
    ----------
    records : int
        That were filed; studies that they concern are looked at again.
    problem : str, optional
        Why not all of it was understood, without anything of the patient.
    """

    records: int
    problem: str | None


def replay_message(settings: GatewaySettings, store: Store, number: int) -> Replayed:
    """Read the message of row `number` again.

    Its records take the place of those that it gave before. What it does not give any more stays.

    Raises
    ------
    InputError
        There is no such message, or its sender is none of `settings`.
    """
    stored = store.records.message(number)
    if stored is None or stored.message.protocol != "hl7":
        rule = "must be the number of an HL7 message; `consilium gateway messages list` has them"
        raise InputError("NUMBER", number, rule)
    raw = stored.message
    source = hl7_source(settings, raw.source)
    try:
        message = parse(raw.content, source.encoding)
        reading = read(message, raw.content, source, raw.received, EarlierValues(store, source.name))
    except InputError as error:
        reading = Reading(problem=without_value(error))
    store.inbox.read_again(number, reading.records, reading.problem)
    return Replayed(len(reading.records), reading.problem)
