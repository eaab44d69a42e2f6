"""A home of its own for every test, with the keys that `consilium serve` would make there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from consilium.ingest.decode_pool import DecodePool
from service.audit_log.pseudonyms import make_keys
from service.serving import intake


class LentPool(DecodePool):
    """A decode pool that outlasts who closes it: to start one takes longer than most tests do."""

    def close(self) -> None:
        """Leave it to the next."""


@pytest.fixture(scope="session")
def decode_pools() -> Iterator[dict[str, LentPool]]:
    """Those of this worker, by the settings they were made with."""
    pools: dict[str, LentPool] = {}
    yield pools
    for pool in pools.values():
        DecodePool.close(pool)


@pytest.fixture(autouse=True)
def lent_pools(decode_pools: dict[str, LentPool], monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine gets a pool that another one has started."""

    def pool(*given: Any, limits: Any, **named: Any) -> DecodePool:
        settings = repr((given, dict(limits), named))
        if settings not in decode_pools:
            decode_pools[settings] = LentPool(*given, limits=limits, **named)
        return decode_pools[settings]

    monkeypatch.setattr(intake, "DecodePool", pool)


@pytest.fixture(autouse=True)
def embedded_audit_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """``CONSILIUM_HOME``."""
    folder = tmp_path / "home"
    monkeypatch.setenv("CONSILIUM_HOME", str(folder))
    make_keys(folder / "audit-log.keys")
    return folder
