"""The keys of the audit log: identifiers become HMAC-SHA256 pseudonyms, stored answers are encrypted.

The keys lie in one file, a line each (``<key id> <32 bytes in base64>``), oldest first. The last one signs; all are
tried when something is looked for, so that a key can be changed without losing what older ones signed. Whoever has the
log alone can neither read an answer nor find out whether a patient he knows is in it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
import stat
from collections.abc import Iterator
from contextlib import suppress
from enum import StrEnum
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.fernet import Fernet
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from consilium.domain.errors import ConsiliumError, InputError
from consilium.system.durable import create_file, replace_file

SETTING = "CONSILIUM_AUDIT_LOG_KEYS"
_HEADER = (
    "# Keys of Consilium's audit log, oldest first; the last one signs. Keep old ones as long as what they sign.\n"
)
_SECRET_BYTES = 32
_NONCE_BYTES = 12


class Kind(StrEnum):
    """What a pseudonym stands for; two kinds never share one, even of the same value."""

    PATIENT = "patient"
    STUDY = "study"
    ACCESSION = "accession"
    REFERENCE = "reference"
    DEVICE = "device"
    SITE = "site"
    REQUEST = "request"
    INPUT = "input"
    IDEMPOTENCY_KEY = "idempotency key"
    BODY = "body"


class Unsealable(ConsiliumError):
    """Something that none of the keys opens: its key is gone, it was altered, or it lay in another's place."""


class AuditLogKey:
    """One key. From its secret others are derived (RFC 5869), so that signatures reveal nothing about encryption."""

    def __init__(self, key_id: str, secret: bytes) -> None:
        self.id = key_id
        self._signing = _derived(secret, b"pseudonyms")
        self._fernet = Fernet(base64.urlsafe_b64encode(_derived(secret, b"answers")))
        self._jobs = AESGCM(_derived(secret, b"jobs"))

    def pseudonym(self, kind: Kind, value: str) -> str:
        """HMAC-SHA256 of `value`, in hex."""
        message = f"{kind}\0{value}".encode("utf-8", "backslashreplace")
        return hmac.new(self._signing, message, hashlib.sha256).hexdigest()

    def encrypt(self, answer: bytes) -> bytes:
        return self._fernet.encrypt(answer)

    def decrypt(self, sealed: bytes) -> bytes:
        return self._fernet.decrypt(sealed)

    def seal(self, data: bytes, place: str) -> bytes:
        """`data`, encrypted (AES-256-GCM) for one `place`: no other place's name opens it."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return f"{self.id}:".encode() + nonce + self._jobs.encrypt(nonce, data, place.encode())

    def _unseal(self, sealed: bytes, place: str) -> bytes:
        return self._jobs.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], place.encode())


class AuditLogKeys:
    """All keys, oldest first."""

    def __init__(self, keys: tuple[AuditLogKey, ...]) -> None:
        self._keys = {key.id: key for key in keys}

    @property
    def newest(self) -> AuditLogKey:
        """The key that signs."""
        return self._keys[next(reversed(self._keys))]

    def __getitem__(self, key_id: str) -> AuditLogKey:
        return self._keys[key_id]

    def __iter__(self) -> Iterator[AuditLogKey]:
        return iter(self._keys.values())

    def unseal(self, sealed: bytes, place: str) -> bytes:
        """What one of the keys has sealed for `place`.

        Raises
        ------
        Unsealable
        """
        key_id, _, rest = sealed.partition(b":")
        try:
            return self._keys[key_id.decode()]._unseal(rest, place)
        except (KeyError, InvalidTag, ValueError):
            raise Unsealable(f"{place}: none of the audit log's keys opens it") from None

    def pseudonyms(self, kind: Kind, value: str) -> list[str]:
        """`value` as each of the keys would have signed it."""
        return [key.pseudonym(kind, value) for key in self]


def read_keys(path: Path) -> AuditLogKeys:
    """The keys that `path` holds.

    Raises
    ------
    InputError
        Where the file is missing, open to other users, or not made of keys.
    """
    try:
        mode = path.stat().st_mode
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        rule = f"must be a readable file of keys ({type(error).__name__}); `consilium audit-log new-key` makes it"
        raise InputError(SETTING, str(path), rule) from None
    if mode & stat.S_IRWXO:
        raise InputError(SETTING, str(path), "must be closed to other users (chmod 600)")
    keys = tuple(_key(path, n, line) for n, line in enumerate(lines, 1) if line.strip() and not line.startswith("#"))
    if not keys or len({key.id for key in keys}) < len(keys):
        raise InputError(SETTING, str(path), "must hold at least one key, and no key id twice")
    return AuditLogKeys(keys)


def make_keys(path: Path) -> None:
    """Make a file with one new key, for its owner alone; one that is there already is left as it is."""
    with suppress(FileExistsError):
        create_file(path, (_HEADER + _new_line()).encode())


def add_key(path: Path) -> AuditLogKeys:
    """Add a new key to those of `path`, which signs from now on; the file is made where it is missing."""
    if not path.exists():
        make_keys(path)
        return read_keys(path)
    read_keys(path)
    text = path.read_text(encoding="utf-8").rstrip("\n") + "\n"
    replace_file(path, (text + _new_line()).encode())
    return read_keys(path)


def _derived(secret: bytes, purpose: bytes) -> bytes:
    return HKDF(SHA256(), length=32, salt=None, info=b"consilium audit-log: " + purpose).derive(secret)


def _key(path: Path, number: int, line: str) -> AuditLogKey:
    key_id, _, encoded = line.strip().partition(" ")
    try:
        secret = base64.b64decode(encoded.strip(), validate=True)
    except binascii.Error:
        secret = b""
    if len(secret) != _SECRET_BYTES:
        # The line itself is not shown: it may be a key with one character too few.
        rule = f"must read `<key id> <{_SECRET_BYTES} bytes in base64>`"
        raise InputError(f"{SETTING} line {number}", str(path), rule)
    return AuditLogKey(key_id, secret)


def _new_line() -> str:
    return f"{secrets.token_hex(4)} {base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()}\n"
