from __future__ import annotations

import asyncio
import logging
from datetime import timedelta
from pathlib import Path

import pytest

from service.auth import keyring
from service.auth.api_keys import KeysUnusable, create_key, revoke_key, rotate_key
from service.auth.caller import Unauthenticated
from service.auth.keyring import KeyRing
from service.scopes import Scope
from tests.patience import PATIENCE_S


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


def test_a_token_names_its_key_and_scopes(path: Path) -> None:
    key, token = create_key(path, "a", [Scope.READ, Scope.METRICS])
    caller = KeyRing(path).caller(token)
    assert caller.name == f"key:{key.id}"
    assert caller.scopes == {Scope.READ, Scope.METRICS}


def test_every_other_token_is_refused_alike(path: Path) -> None:
    _, token = create_key(path, "a", [Scope.READ])
    ring = KeyRing(path)
    other = "0" if token[-1] != "0" else "1"
    wrong = [token[:-1] + other, token[:-1], f"csl_{'f' * 12}_{'0' * 64}", "csl_", token.upper(), f" {token}"]
    messages = set()
    for attempt in wrong:
        with pytest.raises(Unauthenticated) as caught:
            ring.caller(attempt)
        messages.add((caught.value.detail, str(caught.value.headers)))
    assert len(messages) == 1


def test_changes_of_the_file_are_noticed(path: Path) -> None:
    ring = KeyRing(path)
    assert not ring
    key, first = create_key(path, "a", [Scope.READ])
    ring.refresh()
    assert ring
    _, second = rotate_key(path, key.id, timedelta(hours=1))
    ring.refresh()
    assert ring.caller(first) == ring.caller(second)
    revoke_key(path, key.id)
    ring.refresh()
    assert not ring
    for token in (first, second):
        with pytest.raises(Unauthenticated):
            ring.caller(token)


def test_a_file_that_breaks_is_reported_once_and_the_keys_stay(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    _, token = create_key(path, "a", [Scope.READ])
    ring = KeyRing(path)
    path.write_text("{")
    ring.refresh()
    ring.refresh()
    assert ring.caller(token).scopes == {Scope.READ}
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    path.unlink()
    ring.refresh()
    with pytest.raises(Unauthenticated):
        ring.caller(token)


def test_a_file_that_is_broken_from_the_start_is_refused(path: Path) -> None:
    path.write_text("{")
    with pytest.raises(KeysUnusable, match="is no file of API keys"):
        KeyRing(path)


def test_the_file_is_followed_while_the_service_runs(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keyring, "POLL_S", 0.01)

    async def go() -> None:
        ring = KeyRing(path)
        following = asyncio.create_task(ring.follow())
        _, token = await asyncio.to_thread(create_key, path, "a", [Scope.READ])
        while not ring:
            await asyncio.sleep(0.01)
        assert ring.caller(token).scopes == {Scope.READ}
        following.cancel()

    asyncio.run(asyncio.wait_for(go(), PATIENCE_S))
