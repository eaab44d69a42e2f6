"""The service's view of the file of API keys: read again when it changes, so that a revoked key ends within seconds."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime
from pathlib import Path

from service.auth.api_keys import Key, KeysUnusable, no_key_opens, read_keys, split_token
from service.auth.caller import Caller, Unauthenticated

logger = logging.getLogger("consilium.service")

POLL_S = 1.0
"""How long a change of the file may go unnoticed."""


class KeyRing:
    """The API keys of one file.

    A file that is gone holds no keys. One that cannot be understood any more is reported, and the keys before it stay.

    Raises
    ------
    KeysUnusable
        Where the file cannot be understood from the start.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen = self._signature()
        self._keys = self._read()

    def refresh(self) -> None:
        """Read the file again where it is another one than before. Touches the disk: not for the event loop."""
        seen = self._signature()
        if seen == self._seen:
            return
        # Looked at before it is read: what changes in between is noticed the next time.
        self._seen = seen
        try:
            self._keys = self._read()
        except KeysUnusable as error:
            logger.error("API keys stay as they were: %s", error)

    def _read(self) -> dict[str, Key]:
        return {key.id: key for key in read_keys(self._path)}

    def _signature(self) -> tuple[int, ...] | None:
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino

    async def follow(self) -> None:
        """Read the file whenever it changes, until cancelled."""
        while True:
            await asyncio.sleep(POLL_S)
            await asyncio.to_thread(self.refresh)

    def __bool__(self) -> bool:
        now = datetime.now(UTC)
        return any(key.active(now) for key in self._keys.values())

    def caller(self, token: str) -> Caller:
        """Whose `token` this is.

        Raises
        ------
        Unauthenticated
        """
        parts = split_token(token)
        if parts is None:
            raise Unauthenticated(given=True)
        key_id, secret = parts
        key = self._keys.get(key_id)
        if key is None:
            no_key_opens(secret)
        elif key.opens(secret, datetime.now(UTC)):
            return Caller(f"key:{key.id}", key.scopes, key.groups)
        raise Unauthenticated(given=True)

    def holder(self, name: str) -> Key | None:
        """The key of the caller called `name`, where it still opens."""
        key = self._keys.get(name.removeprefix("key:"))
        return key if key is not None and key.active(datetime.now(UTC)) else None
