"""Sealed files: whole or not there, never readable on the disk, and every alteration is found."""

from __future__ import annotations

import os
import tracemalloc
from pathlib import Path

import pytest

from hospital.store.keys import StoreKey, Unsealable
from hospital.store.sealed_files import CHUNK_BYTES, SealedFiles

KEY = StoreKey(bytes(range(32)))
HEADER = 24


@pytest.fixture
def files(tmp_path: Path) -> SealedFiles:
    return SealedFiles(tmp_path / "files", KEY)


def stored(files: SealedFiles, name: str) -> Path:
    return files.folder / name[:2] / name


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES])
def test_what_was_written_is_read(files: SealedFiles, size: int) -> None:
    content = os.urandom(size)

    name = files.write(content)

    assert files.read(name) == content
    assert list(files.names()) == [name]


def test_pieces_of_any_size_make_one_file(files: SealedFiles) -> None:
    pieces = [os.urandom(size) for size in (1, 70_000, CHUNK_BYTES, 0, 3, 400_000)]

    with files.writer() as writer:
        for piece in pieces:
            writer.write(piece)
        name = writer.commit()

    assert writer.size == sum(map(len, pieces))
    assert files.read(name) == b"".join(pieces)


def test_any_place_can_be_read(files: SealedFiles) -> None:
    content = os.urandom(2 * CHUNK_BYTES + 100)
    with files.open(files.write(content)) as file:
        for start in (CHUNK_BYTES - 5, 0, 2 * CHUNK_BYTES + 90, CHUNK_BYTES):
            file.seek(start)
            assert file.read(20) == content[start : start + 20]
        assert file.seek(-10, os.SEEK_END) == len(content) - 10
        assert file.read() == content[-10:]
        assert file.read() == b""


def test_nothing_of_the_content_is_readable_on_the_disk(files: SealedFiles) -> None:
    name = files.write(b"MUELLER^ANNA" * 100)

    assert b"MUELLER" not in stored(files, name).read_bytes()
    assert stored(files, name).stat().st_mode & 0o777 == 0o600


def test_a_file_that_is_not_committed_leaves_nothing(files: SealedFiles) -> None:
    def break_off() -> None:
        with files.writer() as writer:
            writer.write(bytes(CHUNK_BYTES * 2))
            raise OSError("broken")

    with pytest.raises(OSError, match="broken"):
        break_off()

    assert [path for path in files.folder.rglob("*") if path.is_file()] == []


def test_what_a_killed_process_was_writing_is_discarded_and_whole_files_stay(files: SealedFiles) -> None:
    whole = files.write(b"whole")
    files.writer().write(b"half")

    assert files.discard_incoming() == 1
    assert files.discard_incoming() == 0
    assert files.read(whole) == b"whole"


@pytest.mark.parametrize("place", [0, HEADER - 1, HEADER, HEADER + CHUNK_BYTES + 20, -1])
def test_an_altered_byte_is_found(files: SealedFiles, place: int) -> None:
    name = files.write(os.urandom(CHUNK_BYTES + 50))
    altered = bytearray(stored(files, name).read_bytes())
    altered[place] ^= 1
    stored(files, name).write_bytes(altered)

    with pytest.raises(Unsealable):
        files.read(name)


@pytest.mark.parametrize("length", [0, HEADER, HEADER + 15, HEADER + CHUNK_BYTES + 16, -1])
def test_a_truncated_file_is_refused_when_it_is_opened(files: SealedFiles, length: int) -> None:
    name = files.write(os.urandom(CHUNK_BYTES + 50))
    whole = stored(files, name).read_bytes()
    stored(files, name).write_bytes(whole[:length])

    with pytest.raises(Unsealable):
        files.open(name)


def test_a_file_in_the_place_of_another_is_refused(files: SealedFiles) -> None:
    first, second = files.write(b"one patient's"), files.write(b"another's")
    stored(files, second).write_bytes(stored(files, first).read_bytes())

    with pytest.raises(Unsealable):
        files.read(second)


def test_another_key_opens_nothing(files: SealedFiles) -> None:
    name = files.write(b"content")

    with pytest.raises(Unsealable):
        SealedFiles(files.folder, StoreKey(bytes(32))).read(name)


def test_a_removed_file_is_gone_and_can_be_removed_again(files: SealedFiles) -> None:
    name = files.write(b"content")
    files.remove(name)
    files.remove(name)

    assert list(files.names()) == []
    with pytest.raises(FileNotFoundError):
        files.read(name)


@pytest.mark.parametrize("name", ["../../etc/passwd", "", "x" * 32, "0" * 31])
def test_what_is_no_name_of_a_file_is_refused(files: SealedFiles, name: str) -> None:
    with pytest.raises(ValueError, match="no name"):
        files.read(name)


def test_a_large_file_takes_the_memory_of_a_few_chunks(files: SealedFiles) -> None:
    piece = os.urandom(CHUNK_BYTES)
    tracemalloc.start()
    try:
        with files.writer() as writer:
            for _ in range(64):
                writer.write(piece)
            name = writer.commit()
        with files.open(name) as file:
            while file.read(CHUNK_BYTES):
                pass
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 8 * CHUNK_BYTES
