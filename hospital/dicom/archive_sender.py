"""Archives as destinations of the outbox."""

from __future__ import annotations

import asyncio
from typing import Protocol

from hospital.delivery.destinations import NotSent, Refused, TryAgain, Unreachable
from hospital.dicom.requesting import PeerBusy, PeerFailure, PeerRefuses, PeerUnreachable
from hospital.store.state import QueuedDelivery

_KINDS: dict[type[PeerFailure], type[NotSent]] = {
    PeerUnreachable: Unreachable,
    PeerBusy: TryAgain,
    PeerRefuses: Refused,
}


class Archive(Protocol):
    """Where a DICOM file is stored: `hospital.dicom.storing.ArchiveStorage`, or a `DicomWebServer`."""

    def store(self, content: bytes) -> None:
        """Return when the archive is known to have the file, or raise a `PeerFailure`."""
        ...


class ArchiveSender:
    """The `hospital.delivery.destinations.DeliverySender` of one archive."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive

    async def send(self, queued: QueuedDelivery) -> None:
        """Store one DICOM file; see `DeliverySender.send`."""
        try:
            await asyncio.to_thread(self._archive.store, queued.delivery.content)
        except PeerFailure as error:
            raise _KINDS.get(type(error), TryAgain)(str(error)) from None

    async def close(self) -> None:
        """Nothing is kept open between two files."""
