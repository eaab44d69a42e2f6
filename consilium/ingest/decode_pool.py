"""DecodePool: files decoded in worker processes that can be killed one task at a time.

Native codecs crash, loop and allocate on hostile input, and a machine that is short of memory kills what is largest.
An image whose process dies is decoded again in a fresh one; only an image that kills two is refused (`DecodersDied`).

A script that makes a pool needs the usual ``if __name__ == "__main__":`` guard, and to be a file, because workers are
spawned and import it.
"""

from __future__ import annotations

import atexit
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from functools import partial
from types import TracebackType
from typing import Any

from consilium.domain.errors import DecodeFailed, DecodersDied, DecoderUnavailable, InputError
from consilium.domain.study import Record
from consilium.formats.limits import Limits
from consilium.ingest.decode_worker import OUT_OF_MEMORY, DecodeWorker, FileReader, Source, WorkerDied
from consilium.modalities.converter import Converter
from consilium.modalities.presentation import Viewed
from consilium.modalities.registry import default_limits

_HEARTBEAT_S = 0.5
"""How often a worker is looked at that has no task."""
_GIVEN_UP_AFTER_S = 1.0
"""A task that nobody waits for is ended if it lasts longer: to start another worker costs about as much."""
_FATAL_DEATHS = 2
_MOST_STARTS = 5
"""Processes that may die in a row before it is the machine that is at fault."""
_START_AGAIN_S = 0.2
_RULE = "must be decodable"
_NONE_STARTS = "no decoding process can be started"
_NONE_LASTS = "its decoding processes are killed before they begin"


class DecodePool:
    """A pool of decoding processes. Thread-safe; a context manager.

    Parameters
    ----------
    workers : int or None
        Processes; None for one per core this process may use.
    seconds : float
        Time limit of one image.
    memory_bytes : int
        Address space of one worker (``RLIMIT_AS``); about 0.3 GB of it is taken before the first image.
    limits : Limits or None
        What is refused as too large; `default_limits` unless given.
    reader : FileReader or None
        What runs in the workers; None: the reader that the modality of each file declares.
    start : bool
        Start the workers now, so that no image waits for them; otherwise with the first image.

    Raises
    ------
    DecoderUnavailable
        Where no worker can be started.
    """

    def __init__(
        self,
        workers: int | None = None,
        *,
        seconds: float = 20.0,
        memory_bytes: int = 4 * 2**30,
        limits: Limits | None = None,
        reader: FileReader | None = None,
        start: bool = True,
    ) -> None:
        self.workers = workers or len(os.sched_getaffinity(0))
        self._seconds = seconds
        self._limits = limits or default_limits()
        self._reader = reader
        self._memory_bytes = memory_bytes
        self._closed = False
        self._changed = threading.Condition()
        self._waiting: deque[_Request] = deque()
        self._threads: list[threading.Thread] = []
        if start:
            try:
                for ready in self._start():
                    ready.result()
            except BaseException:
                self.close()
                raise

    def _start(self) -> list[Future[None]]:
        """One thread for each worker; a worker ends when its thread does."""
        ready: list[Future[None]] = []
        with self._changed:
            if not self._threads:
                ready = [Future() for _ in range(self.workers)]
                self._threads = [
                    threading.Thread(target=self._serve, args=(one,), name="decode-pool", daemon=True) for one in ready
                ]
                for thread in self._threads:
                    thread.start()
                atexit.register(self.close)
        return ready

    def submit(
        self, data: Source, kind: str, field: str = "", converters: Sequence[Converter] = (), *, viewing: str = ""
    ) -> Future[Any]:
        """Start decoding what is sent as `kind`: a file's bytes, in one or several pieces, or the file at a path.

        Errors name `field`, or `kind` where none is given. Where there are `converters`, all of which must be
        `Converter.in_decoder`, the record is condensed to their arrays. With `viewing`, the reader of a
        `consilium.modalities.presentation.FileViewing`, the file is read for readers, too, and comes as a `Viewed`.

        The future raises what `decode` raises. Cancelling it, as `asyncio.wrap_future` does when its waiter is
        cancelled, ends the task: at once where it has not begun, otherwise unless it is done within a second.
        """
        request = _Request(data, field or kind, kind, converters, viewing)
        with self._changed:
            if self._closed:
                raise RuntimeError("the decode pool is closed")
            self._waiting.append(request)
            self._changed.notify()
        self._start()
        return request.answer

    def decode(self, data: Source, kind: str, field: str = "") -> Any:
        """Decode one file and wait for it.

        Raises
        ------
        InputError
            What the reader refused, with its field.
        DecodeFailed
            The decoder hung or ran out of memory; `DecodersDied` where two died of it.
        DecoderUnavailable
            No worker could be started, or the pool was closed.
        """
        return self.submit(data, kind, field).result()

    def map(self, sources: Iterable[Source], kind: str) -> Iterator[Record | InputError]:
        """Decode many files that are sent as `kind`, in order, holding a few times `workers` of them at once.

        A file that is refused comes out as its error, with the field ``kind[i]``, and the others go on.

        Raises
        ------
        DecoderUnavailable
        """
        waiting: deque[Future[Any]] = deque()
        try:
            for index, source in enumerate(sources):
                waiting.append(self.submit(source, kind, f"{kind}[{index}]"))
                if len(waiting) >= 4 * self.workers:
                    yield _record_or_error(waiting.popleft())
            while waiting:
                yield _record_or_error(waiting.popleft())
        finally:
            for future in waiting:
                future.cancel()

    def close(self) -> None:
        """Kill the workers; whoever waits for an image gets `DecoderUnavailable`."""
        with self._changed:
            self._closed = True
            left = [*self._waiting]
            self._waiting.clear()
            self._changed.notify_all()
        for request in left:
            request.finish(_closed_early(request.field))
        for thread in self._threads:
            thread.join()
        atexit.unregister(self.close)

    def __enter__(self) -> DecodePool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    # --- in the threads ----------------------------------------------------------------------------------------------

    def _serve(self, ready: Future[None]) -> None:
        slot = _Slot(partial(DecodeWorker, self._reader, self._limits, self._memory_bytes))
        try:
            slot.worker()
        except DecoderUnavailable as error:
            ready.set_exception(error)
        else:
            ready.set_result(None)
        try:
            while (request := self._next(slot)) is not None:
                request.finish(self._result(slot, request))
        finally:
            slot.drop()

    def _next(self, slot: _Slot) -> _Request | None:
        """The next request; None where the pool is closed. A worker that dies meanwhile is replaced."""
        while True:
            with self._changed:
                if not self._waiting and not self._closed:
                    self._changed.wait(_HEARTBEAT_S)
                if self._closed:
                    return None
                if self._waiting:
                    request = self._waiting.popleft()
                    if not request.answer.cancelled():
                        return request
                    continue
            with suppress(DecoderUnavailable):  # The next request gets the error.
                slot.worker()

    def _result(self, slot: _Slot, request: _Request) -> Record | Viewed | Exception:
        """What comes of a request, in as many processes as it takes."""
        causes: list[str] = []
        for _ in range(_MOST_STARTS):
            try:
                worker = slot.worker()
                limit = partial(self._limit, request)
                result = worker.decode(
                    request.data, request.field, request.kind, request.converters, limit, request.viewing
                )
            except TimeoutError:
                return self._late(request)
            except DecoderUnavailable as error:
                return error
            except WorkerDied as death:
                causes += [death.cause] if death.begun else []
                if len(causes) == _FATAL_DEATHS:
                    return DecodersDied(request.field, f"killed two decoders ({', '.join(causes)})", _RULE)
                continue
            if worker.fresh or not (isinstance(result, DecodeFailed) and result.value == OUT_OF_MEMORY):
                return result
            slot.drop()  # What its memory is full of may have been another image.
        return DecoderUnavailable(f"{request.field}: {_NONE_LASTS}")

    def _limit(self, request: _Request) -> float:
        if self._closed:
            return 0.0
        return min(self._seconds, _GIVEN_UP_AFTER_S) if request.answer.cancelled() else self._seconds

    def _late(self, request: _Request) -> Exception:
        if self._closed:
            return _closed_early(request.field)
        return DecodeFailed(request.field, "timed out", f"{_RULE} within {self._seconds:g} seconds")


class _Slot:
    """The place of one worker, which is replaced when it dies. Of one thread."""

    def __init__(self, make: Callable[[], DecodeWorker]) -> None:
        self._make = make
        self._worker: DecodeWorker | None = None

    def worker(self) -> DecodeWorker:
        """A worker that takes tasks.

        Raises
        ------
        DecoderUnavailable
        """
        if self._worker is not None and self._worker.alive:
            return self._worker
        for attempt in range(_MOST_STARTS):
            self.drop()
            try:
                self._worker = self._make()
                self._worker.start()
            except (OSError, WorkerDied):
                time.sleep(_START_AGAIN_S * 2**attempt)
            else:
                return self._worker
        self.drop()
        raise DecoderUnavailable(_NONE_STARTS)

    def drop(self) -> None:
        """End the worker."""
        if self._worker is not None:
            self._worker.close()
            self._worker = None


def _record_or_error(future: Future[Any]) -> Record | InputError:
    try:
        return future.result()
    except InputError as error:
        return error


def _closed_early(field: str) -> DecoderUnavailable:
    return DecoderUnavailable(f"{field}: the decode pool was closed before it was decoded")


@dataclass(slots=True, eq=False)
class _Request:
    data: Source
    field: str
    kind: str
    converters: Sequence[Converter]
    viewing: str
    answer: Future[Any] = dataclass_field(default_factory=Future)

    def finish(self, result: Record | Viewed | Exception) -> None:
        if not self.answer.set_running_or_notify_cancel():
            return
        if isinstance(result, Exception):
            self.answer.set_exception(result)
        else:
            self.answer.set_result(result)
