"""Storage commitment: what archives say that they keep of the gateway's results. Source: PS3.4 J."""

from __future__ import annotations

import threading

from pynetdicom import evt

from consilium.formats.dicom.elements import sequence_items
from consilium.formats.dicom.header import optional_text

_SUCCESS, _PROCESSING_FAILURE = 0x0000, 0x0110


class Commitments:
    """What archives committed themselves to; answers come over any association. Several threads may use it."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._answers: dict[str, bool | None] = {}

    def expect(self, transaction: str) -> None:
        """An answer to `transaction` will come."""
        with self._changed:
            self._answers[transaction] = None

    def answer(self, event: evt.Event) -> tuple[int, None]:
        """Take an N-EVENT-REPORT; those that nobody waits for are passed over."""
        try:
            report = event.event_information
            transaction, failed = (
                optional_text(report, "TransactionUID"),
                bool(sequence_items(report, "FailedSOPSequence")),
            )
        except Exception:  # noqa: BLE001 - hostile bytes make pydicom raise anything at all
            return _PROCESSING_FAILURE, None
        with self._changed:
            if transaction in self._answers:
                self._answers[transaction] = not failed
                self._changed.notify_all()
        return _SUCCESS, None

    def await_answer(self, transaction: str, seconds: float) -> bool | None:
        """Whether the archive committed itself to all of `transaction`; None where it did not say in time."""
        with self._changed:
            self._changed.wait_for(lambda: self._answers[transaction] is not None, seconds)
            return self._answers.pop(transaction)
