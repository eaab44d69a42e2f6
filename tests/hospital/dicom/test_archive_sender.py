from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from hospital.delivery.destinations import NotSent, Refused, TryAgain, Unreachable
from hospital.dicom.archive_sender import ArchiveSender
from hospital.dicom.requesting import PeerBusy, PeerFailure, PeerRefuses, PeerUnreachable
from hospital.dicom.storing import is_taken
from hospital.store.state import Delivery, DeliveryStage, QueuedDelivery

NOW = datetime(2026, 1, 5, tzinfo=UTC)
QUEUED = QueuedDelivery(1, Delivery("1.2.3", "pacs", "sr", b"file"), DeliveryStage.WAITING, 0, NOW, NOW)


class _Archive:
    def __init__(self, error: PeerFailure | None = None) -> None:
        self.error, self.stored = error, list[bytes]()

    def store(self, content: bytes) -> None:
        if self.error is not None:
            raise self.error
        self.stored.append(content)


def test_what_the_archive_has_is_sent() -> None:
    archive = _Archive()
    asyncio.run(ArchiveSender(archive).send(QUEUED))
    assert archive.stored == [b"file"]


@pytest.mark.parametrize(
    ("error", "kind"), [(PeerUnreachable, Unreachable), (PeerBusy, TryAgain), (PeerRefuses, Refused)]
)
def test_a_failure_of_the_archive_says_what_the_lane_does(error: type[PeerFailure], kind: type[NotSent]) -> None:
    with pytest.raises(kind, match="pacs: no"):
        asyncio.run(ArchiveSender(_Archive(error("pacs: no"))).send(QUEUED))


@pytest.mark.parametrize(
    ("status", "taken"),
    [
        *((0x0000, True), (0xB000, True), (0xB007, True), (0x0111, True)),
        *((0xA700, None), (0xA7FF, None), (0x0110, None), (0x0124, None), (None, None)),
        *((0xA900, False), (0xC000, False), (0xCFFF, False), (0x0122, False), (0x0117, False)),
    ],
)
def test_a_status_is_taken_never_or_perhaps_later(status: int | None, taken: bool | None) -> None:
    assert is_taken(status) is taken
