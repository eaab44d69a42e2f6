"""Run as a program: a listener on a store, which stops dead after a message is on the disk, before it is answered."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from ipaddress import ip_network
from pathlib import Path

from consilium.databases.database import read_url
from hospital.hl7.listener import Allowed, Listener
from hospital.hl7.receiving import Receiver
from hospital.store.gateway_store import Store, StoreLocation
from hospital.store.received import RawMessage, Received
from tests.hospital.hl7.sent_messages import LABORATORY


class DyingInbox:
    """The store's inbox; the process is killed once it has committed the given number of messages."""

    def __init__(self, store: Store, after: int) -> None:
        self._store = store
        self._left = after

    def add(self, *records: Received, raw: RawMessage | None = None) -> bool:
        new = self._store.inbox.add(*records, raw=raw)
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return new


def opened(folder: Path) -> Store:
    url = read_url(f"sqlite:///{folder / 'gateway.db'}", "url")
    return Store(StoreLocation(url, folder, folder / "store.key", free_bytes=1))


async def main(folder: Path, after: int) -> None:
    store = opened(folder)
    store.take()
    receiver = Receiver(LABORATORY, DyingInbox(store, after))
    listener = Listener("127.0.0.1", 0, [Allowed(receiver, [ip_network("127.0.0.0/8")])])
    await listener.start()
    sys.stdout.write(f"{listener.port}\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
