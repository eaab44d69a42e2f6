"""What a peer sends becomes messages within limits; the data set of a C-STORE never stands in memory.

pynetdicom collects a message in memory, or writes it in clear into a temporary file, and knows no limit for either.
Here each fragment of a C-STORE goes into a `Reception` as it arrives; commands and other data sets are short.
"""

from __future__ import annotations

import queue
from collections.abc import Callable
from io import BytesIO
from typing import TYPE_CHECKING, Any

from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.dimse_messages import C_STORE_RQ, DIMSEMessage

from consilium.domain.errors import InputError, TooLarge
from hospital.dicom.reception import Announced, Reception

if TYPE_CHECKING:
    from pynetdicom.association import Association
    from pynetdicom.pdu_primitives import P_DATA

_MOST_COMMAND_BYTES = 1 << 14
_MOST_DATA_SET_BYTES = 1 << 22
"""Of a data set that is no object: a procedure step names each of some thousand instances."""
_MOST_WAITING = 16
"""Messages that a peer may send before the first of them is answered."""
IDLE_WAIT_S = 0.05
_INVALID_PDU = "Evt19"
"""What the state machine answers with A-ABORT. Source: PS3.8 Table 9-10."""


class ReceivedDataSet(BytesIO):
    """The data set of one message: of a C-STORE it is a `reception`, of any other it stands here."""

    def __init__(self, message: DIMSEMessage, start: Callable[[DIMSEMessage], Reception]) -> None:
        super().__init__()
        self.reception: Reception | None = None
        self._message, self._start = message, start

    def write(self, data: bytes, /) -> int:  # type: ignore[override]
        if isinstance(self._message, C_STORE_RQ):
            if self.reception is None:
                self.reception = self._start(self._message)
            return self.reception.write(data)
        if "CommandField" not in self._message.command_set:
            raise InputError("P-DATA-TF", "a data set", "must begin with a command")
        return _within(self, data, _MOST_DATA_SET_BYTES)


class _Command(BytesIO):
    def write(self, data: bytes, /) -> int:  # type: ignore[override]
        return _within(self, data, _MOST_COMMAND_BYTES)


class BoundedMessages(DIMSEServiceProvider):
    """The messages of one association.

    Parameters
    ----------
    start : callable
        What makes a `Reception` of what a C-STORE announces.
    refused : callable
        Is called with the reason when the association is aborted for what was sent.
    idle : callable
        Whether nothing has come for a while.
    """

    def __init__(
        self,
        assoc: Association,
        start: Callable[[Announced], Reception],
        refused: Callable[[str], None],
        idle: Callable[[], bool],
    ) -> None:
        super().__init__(assoc)
        self._start, self._refused, self._idle = start, refused, idle
        self._receptions: list[Reception] = []

    def get_msg(self, block: bool = False) -> Any:
        """The next message and its presentation context; while idle, it is waited for a little."""
        if block or not self._idle():
            return super().get_msg(block)
        try:
            return self.msg_queue.get(timeout=IDLE_WAIT_S)
        except queue.Empty:
            return None, None

    def receive_primitive(self, primitive: P_DATA) -> None:
        """Add a P-DATA primitive to the message that is being received; called by the thread that reads the socket."""
        try:
            if self.message is None:
                self.message = self._new_message()
            super().receive_primitive(primitive)
        except OSError:
            self._abort("disk")
        except InputError as error:
            self._abort(f"{error.field}: {error.rule}")
        except Exception as error:  # noqa: BLE001 - hostile bytes make the decoders raise anything at all
            self._abort(type(error).__name__)

    def discard(self) -> None:
        """Delete what was received of objects that are not stored; the association has ended."""
        for reception in self._receptions:
            reception.discard()
        self._receptions.clear()

    def done(self, reception: Reception) -> None:
        """Forget an object that was dealt with."""
        reception.discard()
        self._receptions.remove(reception)

    def _new_message(self) -> DIMSEMessage:
        if self.msg_queue.qsize() >= _MOST_WAITING:
            raise TooLarge(
                "association", f"{_MOST_WAITING} messages", f"must await answers to {_MOST_WAITING} messages"
            )
        message = DIMSEMessage()
        message.encoded_command_set = _Command()
        message.data_set = ReceivedDataSet(message, self._received)
        return message

    def _received(self, message: DIMSEMessage) -> Reception:
        command = message.command_set
        context = self.assoc._accepted_cx.get(message.context_id or 0)
        if context is None or context.abstract_syntax != command.get("AffectedSOPClassUID"):
            raise InputError("C-STORE", "another SOP class", "must be sent in a presentation context of its SOP class")
        instance = str(command.get("AffectedSOPInstanceUID") or "")
        reception = self._start(Announced(str(context.abstract_syntax), instance, str(context.transfer_syntax[0])))
        self._receptions.append(reception)
        return reception

    def _abort(self, reason: str) -> None:
        self._refused(reason)
        self.message = None
        self.dul.event_queue.put(_INVALID_PDU)


def _within(buffer: BytesIO, data: bytes, most: int) -> int:
    if buffer.tell() + len(data) > most:
        raise TooLarge("message", f"over {most} bytes", f"must be at most {most} bytes")
    return BytesIO.write(buffer, data)
