"""Received bytes on disk: encrypted in chunks, whole or not there, of any size at the memory of one chunk.

A file is written under a name of its own in the same file system, synced, and renamed. It belongs to the store once a
row names it; what no row names is removed at the next start.

Format: 8 bytes of magic, 16 bytes of salt, then AES-256-GCM chunks of `CHUNK_BYTES` of content and a tag of 16 bytes.
Each file has a key of its own, derived from the salt. A chunk's nonce is its number and whether it is the last, and the
file's name is authenticated with it, so that no chunk can be left out, moved or exchanged, and no file truncated.
"""

from __future__ import annotations

import io
import os
import re
import secrets
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self
from uuid import uuid4

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from consilium.system.durable import sync
from hospital.store.keys import StoreKey, Unsealable

CHUNK_BYTES = 1 << 18
_MAGIC = b"CONSGW1\n"
_SALT_BYTES = 16
_HEADER_BYTES = len(_MAGIC) + _SALT_BYTES
_TAG_BYTES = 16
_SEALED_BYTES = CHUNK_BYTES + _TAG_BYTES
_NAME = re.compile(r"[0-9a-f]{32}")
_INCOMING = "incoming"


class SealedFiles:
    """The sealed files below `folder`, which is made with what it needs.

    Files are found by the names that `SealedWriter.commit` gives; these say nothing about what is in them.
    """

    def __init__(self, folder: Path, key: StoreKey) -> None:
        self.folder = folder
        self._key = key.derived(b"files")
        (folder / _INCOMING).mkdir(parents=True, exist_ok=True, mode=0o700)

    def writer(self) -> SealedWriter:
        """A new file to be filled: ``with files.writer() as writer: writer.write(chunk); name = writer.commit()``."""
        name = uuid4().hex
        return SealedWriter(self.folder / _INCOMING / name, self._path(name), self._key)

    def write(self, content: bytes) -> str:
        """A new file with `content`, on the disk when this returns; its name."""
        with self.writer() as writer:
            writer.write(content)
            return writer.commit()

    def open(self, name: str) -> io.BufferedReader:
        """The content of a file, to be read from any place.

        Reading raises `Unsealable` where a chunk was altered, and opening where the file was truncated.

        Raises
        ------
        FileNotFoundError, Unsealable
        """
        return io.BufferedReader(_SealedReader(self._path(name), self._key), CHUNK_BYTES)

    def read(self, name: str) -> bytes:
        with self.open(name) as file:
            return file.read()

    def remove(self, name: str) -> None:
        """Delete a file, whether it is there or not."""
        self._path(name).unlink(missing_ok=True)

    def names(self) -> Iterator[str]:
        """Every whole file."""
        return (path.name for path in self.folder.glob("[0-9a-f][0-9a-f]/*") if _NAME.fullmatch(path.name))

    def written(self, name: str) -> float:
        """When a file was written, in seconds since the epoch; infinity where it is gone."""
        try:
            return self._path(name).stat().st_mtime
        except FileNotFoundError:
            return float("inf")

    def discard_incoming(self) -> int:
        """Delete what a process that ended was writing; how many files there were. Only while nothing is received."""
        left = list((self.folder / _INCOMING).iterdir())
        for path in left:
            path.unlink(missing_ok=True)
        return len(left)

    def _path(self, name: str) -> Path:
        if not _NAME.fullmatch(name):
            raise ValueError("no name of a sealed file")
        return self.folder / name[:2] / name


class SealedWriter:
    """A file that is being written; it is gone after the ``with`` block unless `commit` was called.

    Attributes
    ----------
    size : int
        Bytes of content so far.
    """

    def __init__(self, incoming: Path, path: Path, key: bytes) -> None:
        salt = secrets.token_bytes(_SALT_BYTES)
        self.size = 0
        self._incoming, self._path = incoming, path
        self._cipher = _cipher(key, salt)
        self._pending = bytearray()
        self._number = 0
        self._committed = False
        self._file = os.fdopen(os.open(incoming, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb", buffering=0)
        self._file.write(_MAGIC + salt)

    def write(self, data: bytes | bytearray | memoryview) -> int:
        self._pending += data
        self.size += len(data)
        # The last chunk is sealed as such, so one is kept back until it is known that another follows.
        while len(self._pending) > CHUNK_BYTES:
            self._seal(CHUNK_BYTES, last=False)
        return len(data)

    def commit(self) -> str:
        """Bring the file to the disk, whole; its name."""
        self._seal(len(self._pending), last=True)
        os.fsync(self._file.fileno())
        self._file.close()
        if not self._path.parent.is_dir():
            self._path.parent.mkdir(exist_ok=True, mode=0o700)
            sync(self._path.parent.parent)
        self._incoming.rename(self._path)
        sync(self._path.parent)
        self._committed = True
        return self._path.name

    def _seal(self, length: int, *, last: bool) -> None:
        with memoryview(self._pending) as pending:
            sealed = self._cipher.encrypt(_nonce(self._number, last=last), pending[:length], self._path.name.encode())
        del self._pending[:length]
        self._number += 1
        _write_all(self._file, sealed)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        if not self._committed:
            self._incoming.unlink(missing_ok=True)


class _SealedReader(io.RawIOBase):
    """The content of a sealed file; one chunk is in memory at a time."""

    def __init__(self, path: Path, key: bytes) -> None:
        self._name = path.name
        self._file = path.open("rb", buffering=0)
        try:
            header = self._file.read(_HEADER_BYTES)
            sealed = os.fstat(self._file.fileno()).st_size - _HEADER_BYTES
            self._chunks = -(-sealed // _SEALED_BYTES)
            self._size = sealed - self._chunks * _TAG_BYTES
            if not header.startswith(_MAGIC) or len(header) < _HEADER_BYTES or self._size < 0 or self._chunks < 1:
                raise Unsealable(f"sealed file {self._name}: is no whole file")
            self._cipher = _cipher(key, header[len(_MAGIC) :])
            self._position = 0
            self._held: tuple[int, bytes] = (-1, b"")
            self._chunk(self._chunks - 1)  # which is sealed as the last one: a truncated file fails here
        except BaseException:
            self._file.close()
            raise

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        if start + offset < 0:
            raise ValueError("the position must not be negative")
        self._position = start + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: object) -> int:
        if self._position >= self._size:
            return 0
        number, start = divmod(self._position, CHUNK_BYTES)
        with memoryview(buffer).cast("B") as target:  # type: ignore[arg-type]
            found = self._chunk(number)[start : start + len(target)]
            target[: len(found)] = found
        self._position += len(found)
        return len(found)

    def close(self) -> None:
        self._file.close()
        super().close()

    def _chunk(self, number: int) -> bytes:
        if self._held[0] != number:
            self._file.seek(_HEADER_BYTES + number * _SEALED_BYTES)
            sealed = self._file.read(_SEALED_BYTES)
            nonce = _nonce(number, last=number == self._chunks - 1)
            try:
                self._held = (number, self._cipher.decrypt(nonce, sealed or b"", self._name.encode()))
            except InvalidTag:
                raise Unsealable(f"sealed file {self._name}: chunk {number} was altered or cut off") from None
        return self._held[1]


def _cipher(key: bytes, salt: bytes) -> AESGCM:
    return AESGCM(HKDF(SHA256(), length=32, salt=salt, info=b"consilium gateway: file").derive(key))


def _nonce(number: int, *, last: bool) -> bytes:
    return number.to_bytes(11, "big") + bytes([last])


def _write_all(file: io.RawIOBase | io.FileIO, data: bytes) -> None:
    """An unbuffered file may take less than it is given."""
    with memoryview(data) as rest:
        done = 0
        while done < len(rest):
            done += file.write(rest[done:]) or 0
