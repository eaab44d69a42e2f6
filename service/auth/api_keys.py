"""API keys and the file that holds them: created, listed, rotated and revoked by `consilium keys`.

A token reads ``csl_<id>_<secret>``. The file keeps the SHA-256 of the secret only: 256 random bits cannot be found from
it, so that a slow hash, which passwords need, would protect nothing here.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Literal

from filelock import FileLock, Timeout
from pydantic import AwareDatetime, BaseModel, ConfigDict, StringConstraints, ValidationError, field_serializer

from consilium.domain.errors import ConsiliumError, InputError
from consilium.system.durable import replace_file
from service.scopes import Scope

PREFIX = "csl"
_SECRET_BYTES, _ID_BYTES = 32, 6
_TOKEN = re.compile(rf"{PREFIX}_([0-9a-f]{{{2 * _ID_BYTES}}})_([0-9a-f]{{{2 * _SECRET_BYTES}}})", re.ASCII)
_LOCK_SECONDS = 10.0
_NOBODY = hashlib.sha256(b"").hexdigest()
LONGEST_NAME = 100


class KeysUnusable(ConsiliumError):
    """The file of API keys cannot be read, written or understood."""


class _Stored(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Secret(_Stored):
    """One secret of a key, by its digest. `ends` is None until the secret is rotated."""

    digest: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
    created: AwareDatetime
    ends: AwareDatetime | None = None

    def holds(self, now: datetime) -> bool:
        """Whether the secret still opens."""
        return self.ends is None or now < self.ends


class Key(_Stored):
    """One caller's key. `name` says whose it is, for the people who keep the file; `groups` are its reading groups."""

    id: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{12}$")]
    name: Annotated[str, StringConstraints(min_length=1, max_length=LONGEST_NAME)]
    scopes: frozenset[Scope]
    groups: frozenset[str] = frozenset()
    created: AwareDatetime
    revoked: AwareDatetime | None = None
    secrets: tuple[Secret, ...]

    @field_serializer("scopes")
    def _in_order(self, scopes: frozenset[Scope]) -> list[Scope]:
        return sorted(scopes)

    @field_serializer("groups")
    def _by_name(self, groups: frozenset[str]) -> list[str]:
        return sorted(groups)

    def active(self, now: datetime) -> bool:
        """Whether any token of this key still opens."""
        return self.revoked is None and any(secret.holds(now) for secret in self.secrets)

    def opens(self, secret: str, now: datetime) -> bool:
        """Whether `secret` is one of this key's that still holds. Takes the same time whichever digit differs."""
        digest = hashlib.sha256(secret.encode()).hexdigest()
        found = [hmac.compare_digest(digest, one.digest) for one in self.secrets if one.holds(now)]
        return self.revoked is None and any(found)


class KeyFile(_Stored):
    """What the file holds."""

    format: Literal[1] = 1
    keys: tuple[Key, ...] = ()


def split_token(token: str) -> tuple[str, str] | None:
    """Id and secret of an API key's token; None where it is none."""
    found = _TOKEN.fullmatch(token)
    return None if found is None else (found[1], found[2])


def no_key_opens(secret: str) -> None:
    """Take the time that `Key.opens` takes, where no key has the id: an answer's time must not tell which ids exist."""
    hmac.compare_digest(hashlib.sha256(secret.encode()).hexdigest(), _NOBODY)


def read_keys(path: Path) -> tuple[Key, ...]:
    """The keys in `path`; none where there is no file.

    Raises
    ------
    KeysUnusable
        Where the file cannot be read or is none of ours. Names the place in it, never what stands there.
    """
    try:
        return KeyFile.model_validate_json(path.read_bytes()).keys
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise KeysUnusable(f"{path}: cannot be read ({error.strerror})") from None
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise KeysUnusable(f"{path}: is no file of API keys ({where}: {first['type']})") from None


def create_key(path: Path, name: str, scopes: Iterable[Scope], groups: Iterable[str] = ()) -> tuple[Key, str]:
    """Add a key; give it and its token, which nobody can read again.

    Raises
    ------
    InputError, KeysUnusable
    """
    members = frozenset(groups)
    for field, text in (("name", name), *(("group", group) for group in sorted(members))):
        if not 0 < len(text) <= LONGEST_NAME or not text.isprintable():
            raise InputError(field, text, f"must be 1 to {LONGEST_NAME} printable characters")
    granted = frozenset(scopes)
    if not granted:
        raise InputError("scope", "none", f"must be at least one of {', '.join(Scope)}")
    now = _now()
    secret, digest = _new_secret()
    stored = (Secret(digest=digest, created=now),)
    key_id = secrets.token_hex(_ID_BYTES)
    key = Key(id=key_id, name=name, scopes=granted, groups=members, created=now, secrets=stored)
    with _editing(path) as keys:
        keys.append(key)
    return key, _token(key, secret)


def rotate_key(path: Path, key_id: str, overlap: timedelta) -> tuple[Key, str]:
    """Give the key `key_id` a new secret; those that it has hold for `overlap` more at most.

    Raises
    ------
    InputError, KeysUnusable
    """
    now = _now()
    secret, digest = _new_secret()
    with _editing(path) as keys:
        place = _place(keys, key_id)
        old = keys[place]
        if old.revoked is not None:
            raise InputError("id", key_id, "must be a key that is not revoked; create another one")
        end = now + overlap
        kept = [
            one.model_copy(update={"ends": end if one.ends is None else min(one.ends, end)})
            for one in old.secrets
            if one.holds(now)
        ]
        key = old.model_copy(update={"secrets": (*kept, Secret(digest=digest, created=now))})
        keys[place] = key
    return key, _token(key, secret)


def revoke_key(path: Path, key_id: str) -> Key:
    """End the key `key_id` now, with all its secrets. It stays listed: records of answers name it.

    Raises
    ------
    InputError, KeysUnusable
    """
    with _editing(path) as keys:
        place = _place(keys, key_id)
        key = keys[place]
        if key.revoked is None:
            key = key.model_copy(update={"revoked": _now(), "secrets": ()})
        keys[place] = key
    return key


def _place(keys: list[Key], key_id: str) -> int:
    for place, key in enumerate(keys):
        if key.id == key_id:
            return place
    raise InputError("id", key_id, "must be the id of a key (consilium keys list)")


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


def _new_secret() -> tuple[str, str]:
    secret = secrets.token_hex(_SECRET_BYTES)
    return secret, hashlib.sha256(secret.encode()).hexdigest()


def _token(key: Key, secret: str) -> str:
    return f"{PREFIX}_{key.id}_{secret}"


@contextmanager
def _editing(path: Path) -> Iterator[list[Key]]:
    """The keys in `path`, written back at the end, with no other writer in between."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_name(f".{path.name}.lock"), timeout=_LOCK_SECONDS, mode=0o600):
            keys = list(read_keys(path))
            yield keys
            replace_file(path, (KeyFile(keys=tuple(keys)).model_dump_json(indent=1) + "\n").encode())
    except Timeout:
        raise KeysUnusable(f"{path}: another process is writing it") from None
    except OSError as error:
        raise KeysUnusable(f"{path}: cannot be written ({error.strerror})") from None
