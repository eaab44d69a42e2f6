"""Which studies an open association is still adding to: such a study is not complete, however quiet it is."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager


class Hold:
    """The studies that one association has added to."""

    def __init__(self, holds: Holds) -> None:
        self._holds = holds
        self._studies: set[str] = set()

    def study(self, uid: str) -> None:
        """Hold a study, by its Study Instance UID, until the association ends."""
        if uid not in self._studies:
            self._studies.add(uid)
            self._holds._add(uid)

    def _release(self) -> None:
        for uid in self._studies:
            self._holds._remove(uid)
        self._studies.clear()


class Holds:
    """What all open associations of this process hold; several threads may use it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held = Counter[str]()

    @contextmanager
    def association(self) -> Iterator[Hold]:
        """One association, for as long as the block runs: ``with holds.association() as hold: hold.study(uid)``."""
        hold = Hold(self)
        try:
            yield hold
        finally:
            hold._release()

    def held(self, study: str) -> bool:
        """Whether an open association has added to `study`."""
        with self._lock:
            return self._held[study] > 0

    def _add(self, uid: str) -> None:
        with self._lock:
            self._held[uid] += 1

    def _remove(self, uid: str) -> None:
        with self._lock:
            self._held[uid] -= 1
            if self._held[uid] <= 0:
                del self._held[uid]
