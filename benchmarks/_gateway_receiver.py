"""The gateway's listener over a store of its own, in a process that can be measured: ``_gateway_receiver.py FOLDER``.

It prints its port and the CPU seconds of its start, ends with its input, and prints CPU seconds, peak memory, objects.
"""

from __future__ import annotations

import logging
import resource
import sys
from pathlib import Path

from sqlalchemy import URL

from consilium.formats.time_zone import TimeZone
from consilium.system.memory import peak_memory
from hospital.dicom.peers import DicomPeer
from hospital.dicom.reception import Receiver
from hospital.dicom.storage_scp import StorageListener, StorageScp
from hospital.store.clock import system_clock
from hospital.store.gateway_store import Store, StoreLocation


def cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main(folder: Path) -> None:
    logging.disable()
    url = URL.create("sqlite", database=str(folder / "gateway.db"))
    store = Store(StoreLocation(url, folder, folder / "store.key", free_bytes=0))
    store.take()
    receiver = Receiver(store.files, store.inbox, system_clock, TimeZone("UTC"))
    peer = DicomPeer("sender", "STORESCU", host="127.0.0.1")
    scp = StorageScp(StorageListener("CONSILIUM", "127.0.0.1", 0, (peer,)), receiver, store.holds)
    scp.start()
    print(scp.port, cpu_seconds(), flush=True)
    sys.stdin.read()
    scp.stop()
    print(cpu_seconds(), peak_memory(), sum(receiver.counts.values()), flush=True)
    store.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
