"""Several files in one: zip archives that are sent, and what is sent of a folder.

Nothing is ever written to a disk, and names decide nothing. Without numpy and pydicom, as the client has none.
"""

from __future__ import annotations

import io
import os
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from consilium.domain.errors import InputError, TooLarge, UnsupportedMedia

MOST_FILES = 16_384
"""Files of one archive or folder."""
_MOST_DEPTH = 64
ZIP = b"PK\x03\x04"
_COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""Others are inflated whole by `zipfile`, however little of them is asked for."""
_BROKEN = (zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error, EOFError, NotImplementedError, OSError, ValueError)
"""What `zipfile` raises of archives that are damaged."""
_START, _ENTRY = b"PK", b"PK\x01\x02"
_MOST_ENTRIES = 4 * MOST_FILES
"""Of an archive, folders and hidden files too: `zipfile` makes an object of each before they can be counted."""


def pack(path: Path, most: int) -> bytes:
    """The bytes that are sent of `path`: of a folder a zip archive of the files in it and below, else the file's own.

    Links are not followed, and files whose names begin with a dot are left out. The same files give the same bytes.
    They are numbered in the order of their names, which are not sent: these may be the patient's.

    Raises
    ------
    InputError
        More than `most` bytes, too many files, or none.
    OSError
        Where a file or a folder cannot be read.
    """
    if not path.is_dir():
        if path.stat().st_size > most:
            raise TooLarge("size", path.stat().st_size, f"must be at most {most} bytes")
        return path.read_bytes()
    names: list[Path] = []
    size = 0
    for folder, folders, files in os.walk(path, followlinks=False, onerror=_raised):
        if len(Path(folder).parts) - len(path.parts) > _MOST_DEPTH:
            raise InputError("folder", "deeper", f"must be at most {_MOST_DEPTH} folders deep")
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in files:
            file = Path(folder, name)
            if name.startswith(".") or file.is_symlink() or not file.is_file():
                continue
            names.append(file)
            size += file.stat().st_size
            if size > most or len(names) > MOST_FILES:
                given = f"{size} bytes in {len(names)} files"
                raise TooLarge("size", given, f"must be at most {most} bytes in {MOST_FILES} files")
    if not names:
        raise InputError("folder", "no file", "must hold the DICOM files of a series")
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for number, file in enumerate(sorted(names)):
            archive.writestr(zipfile.ZipInfo(f"{number:05d}"), file.read_bytes())
    return packed.getvalue()


def _raised(error: OSError) -> None:
    """A folder that cannot be listed has slices that would be missing without a word."""
    raise error


class Files:
    """The files of what was sent: of a zip archive, or itself.

    Parameters
    ----------
    most_bytes : int
        Of one file, and of all together, once inflated.

    Raises
    ------
    InputError
        An archive that is damaged, encrypted, empty, or too large.
    """

    def __init__(self, data: bytes, most_bytes: int) -> None:
        self._data, self._most = data, most_bytes
        self._archive: zipfile.ZipFile | None = None
        self._members: list[zipfile.ZipInfo] = []
        if data.startswith(_START):
            try:
                self._open()
            except _BROKEN as error:
                raise _damaged(error) from None

    def _open(self) -> None:
        entries = self._data.count(_ENTRY)
        if entries > _MOST_ENTRIES:
            raise TooLarge("zip", f"{entries} entries", f"must hold at most {MOST_FILES} files")
        self._archive = zipfile.ZipFile(io.BytesIO(self._data))
        held = [one for one in self._archive.infolist() if not one.is_dir()]
        if len(held) > MOST_FILES:
            raise TooLarge("zip", f"{len(held)} files", f"must hold at most {MOST_FILES}")
        self._members = [one for one in held if not _hidden(one.filename)]
        if not self._members:
            raise InputError("zip", "no file", "must hold the DICOM files of a series")
        if sum(one.file_size for one in self._members) > self._most:
            raise TooLarge("zip", "larger files", f"must hold at most {self._most} bytes once inflated")

    def __len__(self) -> int:
        return len(self._members) if self._archive else 1

    def __iter__(self) -> Iterator[bytes]:
        return (self[number] for number in range(len(self)))

    def __getitem__(self, number: int) -> bytes:
        """The file at this position; `InputError` where it is damaged."""
        if self._archive is None:
            return self._data
        member = self._members[number]
        if member.flag_bits & 1:
            raise UnsupportedMedia("zip", "encrypted file", "must not be encrypted")
        if member.compress_type not in _COMPRESSIONS:
            raise UnsupportedMedia("zip", f"compression {member.compress_type}", "must be stored or deflated")
        try:
            with self._archive.open(member) as file:
                content = file.read(member.file_size + 1)
        except _BROKEN as error:
            raise _damaged(error) from None
        if len(content) > member.file_size:
            raise InputError("zip", "a larger file", "must hold files of the sizes that it states")
        return content


def _hidden(name: str) -> bool:
    return name.startswith("__MACOSX/") or name.rsplit("/", 1)[-1].startswith(".")


def _damaged(error: Exception) -> InputError:
    return InputError("zip", type(error).__name__, "must be a zip archive that is whole")
