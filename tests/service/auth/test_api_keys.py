from __future__ import annotations

import hashlib
import json
import stat
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from consilium.domain.errors import InputError
from service.auth.api_keys import (
    Key,
    KeysUnusable,
    Secret,
    create_key,
    read_keys,
    revoke_key,
    rotate_key,
    split_token,
)
from service.paths import keys_path
from service.scopes import Scope

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "new" / "keys.json"


def secret_of(token: str) -> str:
    parts = split_token(token)
    assert parts is not None
    return parts[1]


def test_a_key_is_read_back_and_its_secret_is_nowhere_in_the_file(path: Path) -> None:
    key, token = create_key(path, "pacs-router", [Scope.READ, Scope.DIAGNOSE])
    assert read_keys(path) == (key,)
    assert token == f"csl_{key.id}_{secret_of(token)}"
    assert len(bytes.fromhex(secret_of(token))) == 32
    text = path.read_text()
    assert secret_of(token) not in text
    assert hashlib.sha256(secret_of(token).encode()).hexdigest() in text
    assert key.opens(secret_of(token), NOW)


def test_only_its_owner_may_read_or_write_the_file(path: Path) -> None:
    create_key(path, "a", [Scope.READ])
    path.chmod(0o644)
    create_key(path, "b", [Scope.READ])
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert {one.name for one in path.parent.iterdir()} <= {path.name, f".{path.name}.lock"}


def test_two_keys_share_neither_id_nor_secret(path: Path) -> None:
    (one, first), (other, second) = (create_key(path, "same name", [Scope.READ]) for _ in range(2))
    assert one.id != other.id
    assert not one.opens(secret_of(second), NOW)
    assert not other.opens(secret_of(first), NOW)


def test_a_rotated_key_opens_with_both_secrets_until_the_old_one_ends(path: Path) -> None:
    made, old = create_key(path, "a", [Scope.READ])
    key, new = rotate_key(path, made.id, timedelta(hours=2))
    assert (key.id, key.scopes) == (made.id, made.scopes)
    end = key.secrets[0].ends
    assert end is not None
    assert key.secrets[1].ends is None
    just_before, then = end - timedelta(seconds=1), end
    assert [key.opens(secret_of(token), just_before) for token in (old, new)] == [True, True]
    assert [key.opens(secret_of(token), then) for token in (old, new)] == [False, True]


def test_a_second_rotation_never_gives_an_old_secret_more_time_and_drops_ended_ones(path: Path) -> None:
    made, _ = create_key(path, "a", [Scope.READ])
    first, _ = rotate_key(path, made.id, timedelta(hours=1))
    second, _ = rotate_key(path, made.id, timedelta(hours=9))
    assert second.secrets[0].ends == first.secrets[0].ends
    third, newest = rotate_key(path, made.id, timedelta(0))
    assert [secret.ends for secret in rotate_key(path, made.id, timedelta(hours=1))[0].secrets][1:] == [None]
    assert third.opens(secret_of(newest), NOW)


def test_a_revoked_key_opens_no_more_stays_listed_and_cannot_be_rotated(path: Path) -> None:
    made, token = create_key(path, "a", [Scope.READ])
    kept, _ = create_key(path, "b", [Scope.READ])
    revoked = revoke_key(path, made.id)
    assert not revoked.opens(secret_of(token), NOW)
    assert not revoked.active(NOW)
    assert read_keys(path) == (revoked, kept)
    assert revoke_key(path, made.id) == revoked, "once is enough"
    with pytest.raises(InputError, match="must be a key that is not revoked"):
        rotate_key(path, made.id, timedelta(hours=1))


def test_a_key_whose_secrets_have_all_ended_is_not_active() -> None:
    ended = Secret(digest="0" * 64, created=NOW, ends=NOW)
    key = Key(id="0" * 12, name="a", scopes=frozenset({Scope.READ}), created=NOW, secrets=(ended,))
    assert not key.active(NOW)
    assert key.active(NOW - timedelta(seconds=1))


def test_an_unknown_id_is_refused(path: Path) -> None:
    for change in (lambda: rotate_key(path, "f" * 12, timedelta(0)), lambda: revoke_key(path, "f" * 12)):
        with pytest.raises(InputError, match=r"id: got 'ffffffffffff', must be the id of a key"):
            change()


@pytest.mark.parametrize(
    ("name", "scopes"), [("", [Scope.READ]), ("x" * 101, [Scope.READ]), ("a\nb", [Scope.READ]), ("a", [])]
)
def test_a_key_without_a_name_or_a_scope_is_refused(path: Path, name: str, scopes: list[Scope]) -> None:
    with pytest.raises(InputError):
        create_key(path, name, scopes)
    assert read_keys(path) == ()


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", '{"format": 2}', '{"keys": [{"id": "x"}]}', '{"keyz": []}', '{"keys": [{"id": "Jane-Roe"}]}'],
)
def test_what_is_no_file_of_keys_is_refused_without_quoting_it_and_never_written_over(path: Path, text: str) -> None:
    path.parent.mkdir()
    path.write_text(text)
    with pytest.raises(KeysUnusable) as caught:
        read_keys(path)
    assert "Jane" not in str(caught.value)
    with pytest.raises(KeysUnusable):
        create_key(path, "a", [Scope.READ])
    assert path.read_text() == text


def test_a_place_that_cannot_be_written_is_named() -> None:
    with pytest.raises(KeysUnusable, match="/proc/nowhere"):
        create_key(Path("/proc/nowhere/keys.json"), "a", [Scope.READ])


def test_writers_at_once_lose_no_key(path: Path) -> None:
    threads = [threading.Thread(target=create_key, args=(path, f"caller {n}", [Scope.READ])) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {key.name for key in read_keys(path)} == {f"caller {n}" for n in range(8)}
    assert json.loads(path.read_text())["format"] == 1


@pytest.mark.parametrize(
    "token",
    ["", "csl_", "csl_0_0", f"csl_{'0' * 12}_{'0' * 63}", f"CSL_{'0' * 12}_{'0' * 64}", f"csl_{'٠' * 12}_{'0' * 64}"],
)
def test_what_is_no_token_is_none(token: str) -> None:
    assert split_token(token) is None


def test_the_file_lies_where_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CONSILIUM_KEYS", raising=False)
    monkeypatch.delenv("CONSILIUM_HOME", raising=False)
    assert keys_path() == Path("var/keys.json").absolute()
    monkeypatch.setenv("CONSILIUM_HOME", "/srv/consilium")
    assert keys_path() == Path("/srv/consilium/keys.json")
    monkeypatch.setenv("CONSILIUM_KEYS", "/etc/consilium/keys.json")
    assert keys_path() == Path("/etc/consilium/keys.json")
