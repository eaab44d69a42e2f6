"""A listener over a real store, in a process that can be killed: ``-m tests.hospital.dicom.receiver_process FOLDER``.

It prints its port, and ends with its input.
"""

from __future__ import annotations

import sys
from pathlib import Path

from sqlalchemy import URL

from consilium.formats.time_zone import TimeZone
from hospital.dicom.reception import Receiver
from hospital.dicom.storage_scp import StorageListener, StorageScp
from hospital.store.clock import system_clock
from hospital.store.gateway_store import Store, StoreLocation
from tests.hospital.dicom.listening import OURS, PEER


def opened(folder: Path) -> Store:
    """The store of `folder`, taken."""
    url = URL.create("sqlite", database=str(folder / "gateway.db"))
    store = Store(StoreLocation(url, folder, folder / "store.key", free_bytes=0))
    store.take()
    return store


def main(folder: Path) -> None:
    store = opened(folder)
    receiver = Receiver(store.files, store.inbox, system_clock, TimeZone("UTC"))
    scp = StorageScp(StorageListener(OURS, "127.0.0.1", 0, (PEER,)), receiver, store.holds)
    scp.start()
    print(scp.port, flush=True)
    sys.stdin.read()
    scp.stop()
    store.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
