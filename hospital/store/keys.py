"""The key of the gateway's store: identifiers become keyed digests that can be looked up, everything else is encrypted.

Whoever has the database and the files alone can neither read a record nor find out whether a patient he knows is in it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
import stat
from contextlib import suppress
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from consilium.domain.errors import ConsiliumError, InputError
from consilium.system.durable import create_file

SETTING = "store.key_file"
_SECRET_BYTES = 32
_NONCE_BYTES = 12


class Unsealable(ConsiliumError):
    """Something that the key does not open: another key sealed it, it was altered, or it lay in another's place."""


class StoreKey:
    """From one secret others are derived (RFC 5869), so that digests reveal nothing about encryption."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self._digests = self.derived(b"digests")
        self._rows = AESGCM(self.derived(b"rows"))

    def derived(self, purpose: bytes) -> bytes:
        """A key of 32 bytes for one purpose."""
        info = b"consilium gateway: " + purpose
        return HKDF(SHA256(), length=32, salt=None, info=info).derive(self._secret)

    def digest(self, kind: str, *values: str | None) -> str:
        """HMAC-SHA256 of `values`, in hex: two kinds never share one, and neither do lists that only join alike."""
        parts = (kind, *("-" if value is None else f"+{value}" for value in values))
        encoded = [part.encode("utf-8", "backslashreplace") for part in parts]
        message = b"".join(len(part).to_bytes(4, "big") + part for part in encoded)
        return hmac.new(self._digests, message, hashlib.sha256).hexdigest()

    def seal(self, data: bytes, place: str) -> bytes:
        """`data`, encrypted (AES-256-GCM) for one `place`: no other place's name opens it."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return nonce + self._rows.encrypt(nonce, data, place.encode())

    def unseal(self, sealed: bytes, place: str) -> bytes:
        """What was sealed for `place`.

        Raises
        ------
        Unsealable
        """
        try:
            return self._rows.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], place.encode())
        except (InvalidTag, ValueError):
            raise Unsealable(f"{place}: the key of the store does not open it") from None


def open_key(path: Path) -> StoreKey:
    """The key that `path` holds; a new one, for its owner alone, where there is no file yet.

    Raises
    ------
    InputError
        Where the file cannot be read or made, is open to other users, or is no key.
    """
    try:
        with suppress(FileExistsError):
            if not path.exists():
                create_file(path, base64.b64encode(secrets.token_bytes(_SECRET_BYTES)) + b"\n")
        mode, content = path.stat().st_mode, path.read_bytes()
    except OSError as error:
        raise InputError(SETTING, str(path), f"must be a file that can be read or made ({error.strerror})") from None
    if mode & (stat.S_IRWXO | stat.S_IRWXG):
        raise InputError(SETTING, str(path), "must be closed to other users (chmod 600)")
    try:
        secret = base64.b64decode(content.strip(), validate=True)
    except binascii.Error:
        secret = b""
    if len(secret) != _SECRET_BYTES:
        raise InputError(SETTING, str(path), f"must hold {_SECRET_BYTES} bytes in base64")
    return StoreKey(secret)
