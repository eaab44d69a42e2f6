"""A listener on this machine whose rows stand in memory, and senders for it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic, sleep
from typing import Any

from pydicom.dataset import Dataset
from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.sop_class import Verification

from consilium.formats.time_zone import TimeZone
from hospital.dicom.peers import DicomPeer
from hospital.dicom.reception import Receiver
from hospital.dicom.storage_scp import StorageListener, StorageScp
from hospital.store.holds import Holds
from hospital.store.keys import StoreKey
from hospital.store.received import RawMessage, Received, ReceivedInstance, ReceivedStep
from hospital.store.sealed_files import SealedFiles
from tests.patience import PATIENCE_S

NOW = datetime(2026, 1, 5, 12, tzinfo=UTC)
PEER = DicomPeer("pacs", "SENDER", host="127.0.0.1")
OURS = "CONSILIUM"


class MemoryInbox:
    """Rows in memory, by what makes them new; `error` is raised instead of storing."""

    def __init__(self, files: SealedFiles) -> None:
        self._files = files
        self.records: dict[object, Received] = {}
        self.error: Exception | None = None
        self._lock = threading.Lock()

    def add(self, *records: Received, raw: RawMessage | None = None) -> bool:
        del raw
        if self.error is not None:
            raise self.error
        with self._lock:
            new = [one for one in records if self._key(one) not in self.records]
            self.records |= {self._key(one): one for one in new}
        for one in records:
            if one not in new and isinstance(one, ReceivedInstance) and one.file is not None:
                self._files.remove(one.file)
        return bool(new)

    @property
    def instances(self) -> list[ReceivedInstance]:
        return [one for one in self.records.values() if isinstance(one, ReceivedInstance)]

    def step(self, step: str) -> ReceivedStep | None:
        """What was last received of a procedure step."""
        found = [one for one in self.records.values() if isinstance(one, ReceivedStep) and one.step == step]
        return next(reversed(found), None)

    @staticmethod
    def _key(record: Received) -> object:
        return (record.sop_instance, record.digest) if isinstance(record, ReceivedInstance) else record


@dataclass(frozen=True, slots=True)
class Listening:
    """A running listener and what it stands on."""

    scp: StorageScp
    receiver: Receiver
    inbox: MemoryInbox
    files: SealedFiles
    holds: Holds = field(default_factory=Holds)

    @property
    def port(self) -> int:
        return self.scp.port

    def stored(self, index: int = 0) -> bytes:
        """The file of an instance."""
        name = self.inbox.instances[index].file
        assert name is not None
        return self.files.read(name)

    def left(self) -> list[str]:
        """Files that are being written."""
        return [path.name for path in (self.files.folder / "incoming").iterdir()]

    def associate(
        self, *contexts: Any, calling: str = PEER.ae_title, called: str = OURS, **options: Any
    ) -> Association:
        """An association of pynetdicom's; contexts are SOP classes, or pairs of one and its transfer syntaxes."""
        ae = AE(calling)
        for context in contexts or (Verification,):
            ae.add_requested_context(*(context if isinstance(context, tuple) else (context,)))
        return ae.associate("127.0.0.1", self.port, ae_title=called, **options)

    def send(self, *datasets: Dataset) -> list[int | None]:
        """The statuses of sending `datasets` in one association; None where there was no answer."""
        association = self.associate(*{one.SOPClassUID for one in datasets})
        assert association.is_established
        try:
            return [association.send_c_store(one).get("Status") for one in datasets]
        finally:
            association.release()


def eventually(condition: Callable[[], bool]) -> bool:
    """Whether `condition` holds within 20 s; a thread of the listener may do its part after the peer saw it."""
    deadline = monotonic() + PATIENCE_S
    while monotonic() < deadline:
        if condition():
            return True
        sleep(0.02)
    return False


@contextmanager
def listening(folder: Path, peers: tuple[DicomPeer, ...] = (PEER,), **options: Any) -> Iterator[Listening]:
    """Listen at a free port with the options of `StorageListener` and, by their names, of `Receiver`."""
    files, holds = SealedFiles(folder, StoreKey(bytes(32))), Holds()
    inbox = MemoryInbox(files)
    receiver = Receiver(files, inbox, lambda: NOW, TimeZone("UTC"), begun=inbox.step)
    of_receiver = {name: options.pop(name) for name in ("sent", "issuers") if name in options}
    if "object_limits" in options:
        of_receiver["limits"] = options.pop("object_limits")
    receiver = replace(receiver, **of_receiver)
    commitments = options.pop("commitments", None)
    scp = StorageScp(StorageListener(OURS, "127.0.0.1", 0, peers, **options), receiver, holds, commitments)
    scp.start()
    try:
        yield Listening(scp, receiver, inbox, files, holds)
    finally:
        scp.stop()
