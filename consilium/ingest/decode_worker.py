"""DecodeWorker: one process that decodes images, which may die at any moment without harm to anything but itself.

Each worker has a pipe and a shared file (in memory, without a name) of its own: of processes that share a pipe, one
that is killed while it writes takes the others with it. The file carries image files there and pixels back; through a
pipe they would cost the parent ten times the CPU time.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import pickle
import resource
import select
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from multiprocessing import reduction
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from consilium.domain.errors import DecodeFailed, DecoderUnavailable, InputError, UnreadableImage
from consilium.domain.study import Record
from consilium.formats.limits import Limits
from consilium.modalities.converter import Converter, condensed
from consilium.modalities.presentation import Viewed
from consilium.modalities.registry import file_content, file_inputs
from consilium.system.installed import load

FileReader = Callable[..., Record]
"""``reader(data, field=..., limits=...)``, importable by its name."""

Source: TypeAlias = bytes | Sequence[bytes] | Path
"""A file: its bytes, in one or several pieces, or where it lies, which spares sending them."""

OUT_OF_MEMORY = "out of memory"
_READY = ""
_LOOK_EVERY_S = 0.1
_STARTED_WITHIN_S = 60.0
_COUNTER_BYTES = 8
_PAYLOAD = 4096
"""Where the file's payload begins; before it stands the number of the task that the worker has begun."""
_KEPT_BYTES = 16 * 2**20
"""A file that was larger gives its memory back after the task."""
_PR_SET_PDEATHSIG = 1
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_FREED_KEPT_BYTES = 64 * 2**20
_MAPPED_BYTES = 32 * 2**20
"""An array of this size is mapped, and given back, by itself. glibc takes no larger one."""


class WorkerDied(Exception):
    """The process ended. `cause` names the signal or the exit code; `begun` says whether it had begun the task."""

    def __init__(self, cause: str, *, begun: bool) -> None:
        super().__init__(cause)
        self.cause = cause
        self.begun = begun


class _Task(NamedTuple):
    number: int
    source: int | Path
    """Bytes of the image file in the shared file, or where the image file is."""
    field: str
    kind: str
    """Name of the `FileInput` that it is sent as."""
    converters: Sequence[Converter]
    """To whose arrays the record is condensed."""
    viewing: str
    """What reads the file for readers, too; empty: nothing."""


class _Result(NamedTuple):
    """Pickled, with the lengths of its buffers, which stand in the shared file one behind the other."""

    pickled: bytes
    buffers: tuple[int, ...]


class DecodeWorker:
    """A worker process, started by `start`. Only the thread that has started it may use it.

    The process ends when that thread does (PR_SET_PDEATHSIG).

    Parameters
    ----------
    reader : FileReader or None
        None: that of the modality whose files are decoded.
    limits : Limits
    memory_bytes : int
        Address space of the process.
    """

    def __init__(self, reader: FileReader | None, limits: Limits, memory_bytes: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._file = os.memfd_create("consilium-decode")
        self._number = 0
        self._process = context.Process(
            target=_work, args=(theirs, os.getpid(), reader, limits, memory_bytes), name="consilium-decoder"
        )
        self._theirs = theirs
        self._answers = select.poll()

    @property
    def fresh(self) -> bool:
        """Whether it had one task at most."""
        return self._number <= 1

    @property
    def alive(self) -> bool:
        return self._process.is_alive()

    def start(self) -> None:
        """Start the process, and wait until it takes tasks.

        Raises
        ------
        WorkerDied
        DecoderUnavailable
            Where a reader needs a module that is not installed.
        OSError
            Where the system starts no process.
        """
        # Until it ignores SIGTERM itself, which a supervisor sends to all processes of a service.
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        try:
            self._process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
            self._theirs.close()
        try:
            reduction.send_handle(self._connection, self._file, self._process.pid)
            ready = self._connection.recv() if self._connection.poll(_STARTED_WITHIN_S) else None
        except (OSError, EOFError):
            ready = None
        if ready is None:
            raise WorkerDied(self._end(), begun=False)
        if ready != _READY:
            self.kill()
            raise DecoderUnavailable(f"no file can be decoded: {ready} is not installed")
        for readable in (self._connection.fileno(), self._process.sentinel):
            self._answers.register(readable, select.POLLIN)

    def decode(
        self,
        source: Source,
        field: str,
        kind: str,
        converters: Sequence[Converter],
        limit: Callable[[], float],
        viewing: str = "",
    ) -> Record | Viewed | InputError:
        """The record, or why it was refused.

        Parameters
        ----------
        converters : sequence of Converter
            To whose arrays the record is condensed.
        limit : callable
            How many seconds the task may take; asked again and again.
        viewing : str
            Reference of a `consilium.modalities.presentation.FileViewing`'s reader, whose result is then given.

        Raises
        ------
        TimeoutError
            Where it took longer than `limit`; the process was killed.
        WorkerDied
        """
        self._number += 1
        try:
            sent = source if isinstance(source, Path) else _write(self._file, _pieces(source))
            self._connection.send(_Task(self._number, sent, field, kind, converters, viewing))
            self._await(limit)
            return self._received(self._connection.recv())
        except (OSError, EOFError) as error:
            if isinstance(error, TimeoutError):
                raise
            raise WorkerDied(self._end(), begun=self._begun()) from None

    def _await(self, limit: Callable[[], float]) -> None:
        begun = time.monotonic()
        while not self._answers.poll(1000 * _LOOK_EVERY_S):
            if time.monotonic() - begun > limit():
                self.kill()
                raise TimeoutError

    def _received(self, result: _Result) -> Record | Viewed | InputError:
        place, buffers = _PAYLOAD, []
        for length in result.buffers:
            buffer = np.empty(length, np.uint8)
            if _read_into(self._file, buffer.data, place) < length:
                raise EOFError
            buffers.append(buffer)
            place += length
        if place > _KEPT_BYTES:
            os.ftruncate(self._file, _PAYLOAD)
        record: Record | Viewed | InputError = pickle.loads(result.pickled, buffers=buffers)  # noqa: S301 - our own process's
        return record

    def _begun(self) -> bool:
        return int.from_bytes(os.pread(self._file, _COUNTER_BYTES, 0), "little") == self._number

    def _end(self) -> str:
        """What ended the process, which is gone afterwards."""
        self._process.join(_LOOK_EVERY_S)  # Its pipe is closed a moment before it can be waited for.
        self.kill()
        code = self._process.exitcode or 0
        return signal.Signals(-code).name if code < 0 else f"exit code {code}"

    def kill(self) -> None:
        """End the process at once."""
        self._process.kill()
        self._process.join()

    def close(self) -> None:
        """End the process, and give its pipe and file back."""
        if self._process.pid is not None:
            self.kill()
        self._theirs.close()
        self._connection.close()
        os.close(self._file)


def _pieces(source: bytes | Sequence[bytes]) -> Sequence[bytes]:
    return [source] if isinstance(source, bytes) else source


def _write(file: int, buffers: Sequence[Any]) -> int:
    """How many bytes were written, one buffer behind the other."""
    place = _PAYLOAD
    for buffer in buffers:
        rest = memoryview(buffer).cast("B")
        while rest:
            done = os.pwrite(file, rest, place)
            place, rest = place + done, rest[done:]
    return place - _PAYLOAD


def _read_into(file: int, buffer: memoryview, place: int) -> int:
    done = 0
    while done < len(buffer) and (got := os.preadv(file, [buffer[done:]], place + done)):
        done += got
    return done


# In the worker ---------------------------------------------------------------------------------------------------


def _work(connection: Connection, parent: int, reader: FileReader | None, limits: Limits, memory_bytes: int) -> None:
    _prepare(parent, memory_bytes)
    try:
        file = reduction.recv_handle(connection)
        connection.send(_READY if reader else _loaded())
        while True:
            task: _Task = connection.recv()
            os.pwrite(file, task.number.to_bytes(_COUNTER_BYTES, "little"), 0)
            connection.send(_sealed(_decoded(task, file, reader, limits), file))
    except EOFError:
        pass  # The pool was closed.


def _loaded() -> str:
    """`_READY` once every reader is imported, for which no file is to wait; else the module that one of them lacks."""
    try:
        for given in file_inputs().values():
            load(given.read)
            if given.viewing:
                load(load(given.viewing).read)
    except ModuleNotFoundError as error:
        return error.name or str(error)
    return _READY


def _sealed(result: Record | Viewed | InputError, file: int) -> _Result:
    buffers: list[pickle.PickleBuffer] = []
    pickled = pickle.dumps(result, protocol=5, buffer_callback=buffers.append)
    raw = [buffer.raw() for buffer in buffers]
    _write(file, raw)
    return _Result(pickled, tuple(view.nbytes for view in raw))


def _decoded(task: _Task, file: int, reader: FileReader | None, limits: Limits) -> Record | Viewed | InputError:
    # Returned, not raised: a traceback sent along would be logged with what it quotes.
    try:
        data = _bytes(task, file, limits)
        if task.viewing:
            viewed: Viewed = load(task.viewing)(data, field=task.field, limits=limits)
            return replace(viewed, record=condensed(viewed.record, task.converters))
        record = (reader or _declared_reader(task.kind))(data, field=task.field, limits=limits)
        return condensed(record, task.converters)
    except InputError as error:
        return error
    except MemoryError:
        return DecodeFailed(task.field, OUT_OF_MEMORY, "must be decodable within the memory of a worker")
    except Exception as error:  # whatever the reader did not turn into one of ours
        return DecodeFailed(task.field, type(error).__name__, "must be decodable")


def _declared_reader(kind: str) -> FileReader:
    reader: FileReader = load(file_inputs()[kind].read)
    return reader


def _bytes(task: _Task, file: int, limits: Limits) -> bytes:
    if isinstance(task.source, int):
        return _read(file, task.source)
    try:
        return file_content(task.kind, task.source, limits[file_inputs()[task.kind].most_bytes.name])
    except InputError as error:
        raise error.at(task.field) from None
    except OSError as error:
        raise UnreadableImage(task.field, str(task.source), f"must be a readable file ({error.strerror})") from None


def _read(file: int, size: int) -> bytes:
    pieces: list[bytes] = []
    done = 0
    while done < size and (piece := os.pread(file, size - done, _PAYLOAD + done)):
        pieces.append(piece)
        done += len(piece)
    return b"".join(pieces)


def _prepare(parent: int, memory_bytes: int) -> None:
    # Whoever stops a service signals all its processes, and what the service has admitted is still to be decoded.
    for ignored in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ignored, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    _keep_freed_memory()
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    soft = memory_bytes if hard == resource.RLIM_INFINITY else min(memory_bytes, hard)
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _keep_freed_memory() -> None:
    """Let the next image have the memory of the last one, as far as `_FREED_KEPT_BYTES`.

    glibc gives the memory of an image's arrays back to the system after each, which then has to clear it again: half of
    the time of an uncompressed image. Source: mallopt(3).
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(_M_TRIM_THRESHOLD, _FREED_KEPT_BYTES)
        libc.mallopt(_M_MMAP_THRESHOLD, _MAPPED_BYTES)
