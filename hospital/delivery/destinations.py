"""What a lane needs of a destination: one object sent, or why not. DICOM, HL7 and FHIR implement it."""

from __future__ import annotations

from typing import Protocol

from consilium.domain.errors import ConsiliumError
from hospital.store.state import QueuedDelivery


class NotSent(ConsiliumError):
    """An object did not arrive. The message names neither patient nor identifier: it is logged and listed."""


class Unreachable(NotSent):
    """The destination gives no answer, or takes nothing now: the whole lane waits."""


class TryAgain(NotSent):
    """The object was not taken now; others of the destination may be."""


class Refused(NotSent):
    """The object will never be taken as it is: a person must look."""


class DeliverySender(Protocol):
    """Sends objects to one destination. A lane calls it once at a time."""

    async def send(self, queued: QueuedDelivery) -> None:
        """Bring one object to the destination; it has taken it over when this returns.

        The same object may be sent again: after a crash nobody knows whether it arrived.

        Raises
        ------
        Unreachable, TryAgain, Refused
        """
        ...

    async def close(self) -> None:
        """Give connections back."""
        ...
