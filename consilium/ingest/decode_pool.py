"""DecodePool: images decoded in worker processes that can be killed one task at a time.

Native codecs crash, loop and allocate on hostile input. Each task runs in a process of its own choosing of memory and
time limits; what exceeds them ends in `DecodeFailed` for that task, and the other tasks go on.

A script that makes a pool needs the usual ``if __name__ == "__main__":`` guard, and to be a file, because workers are
spawned and import it.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import resource
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError, Future
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from functools import partial
from pathlib import Path
from types import TracebackType

from pebble import ProcessPool

from consilium.errors import DecodeFailed, InputError, UnreadableImage
from consilium.ingest.image import read_image
from consilium.ingest.limits import DEFAULT_LIMITS, Limits
from consilium.study import Image

ImageReader = Callable[..., Image]
"""``reader(data, field=..., limits=...)``, importable by its name."""

_PR_SET_PDEATHSIG = 1
_HEARTBEAT_SECONDS = 0.2
_MOST_ATTEMPTS = 3


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
    limits : Limits
        What is refused as too large.
    reader : ImageReader
        What runs in the workers.
    start : bool
        Start the workers now, so that no image waits for them; otherwise with the first image.
    """

    def __init__(
        self,
        workers: int | None = None,
        *,
        seconds: float = 20.0,
        memory_bytes: int = 4 * 2**30,
        limits: Limits = DEFAULT_LIMITS,
        reader: ImageReader = read_image,
        start: bool = True,
    ) -> None:
        self.workers = workers or len(os.sched_getaffinity(0))
        self._seconds = seconds
        self._limits = limits
        self._reader = reader
        self._memory_bytes = memory_bytes
        self._closed = threading.Event()
        self._lock = threading.RLock()
        self._waiting: deque[_Request] = deque()
        self._handed_over: set[_Request] = set()
        self._pool = self._made_pool()
        self._started = False
        if start:
            self._start()

    def _start(self) -> None:
        with self._lock:
            if self._started:
                return
            ready: Future[None] = Future()
            threading.Thread(target=self._keep, args=(ready,), name="decode-pool-keeper", daemon=True).start()
            ready.result()
            self._started = True

    def _made_pool(self) -> ProcessPool:
        return ProcessPool(
            max_workers=self.workers,
            context=multiprocessing.get_context("spawn"),
            initializer=_prepare_worker,
            initargs=[os.getpid(), self._memory_bytes],
        )

    def _keep(self, ready: Future[None]) -> None:
        """Start the workers and replace a pool that broke.

        A worker's death signal comes when the thread that started it ends, so this one lasts as long as the pool.
        """
        try:
            self._pool.schedule(_nothing).result()
        except Exception as error:  # raised again by whoever waits for `ready`
            ready.set_exception(error)
            return
        ready.set_result(None)
        while not self._closed.wait(_HEARTBEAT_SECONDS):
            # Pebble gives a whole pool up when a worker dies that had no task, as when the system is short of memory.
            if not self._pool.active:
                self._replace_pool()

    def _replace_pool(self) -> None:
        with self._lock:
            if self._closed.is_set():  # since the keeper looked: it is `close` that ends this pool
                return
            broken, self._pool = self._pool, self._made_pool()
            lost, self._handed_over = self._handed_over, set()
            again = [request for request in lost if request.attempts < _MOST_ATTEMPTS]
            self._waiting.extendleft(again)
            # Starts the workers, in this thread, before another one dispatches.
            self._pool.schedule(_nothing)
        broken.stop()  # type: ignore[no-untyped-call]
        broken.join()
        for request in lost.difference(again):
            request.finish(DecodeFailed(request.field, "lost", "must be decodable"))
        self._dispatch()

    def submit(self, data: bytes | Path, field: str = "image") -> Future[Image]:
        """Start decoding a file's bytes, or the file at a path, which spares sending the bytes.

        The future raises what `decode` raises. Cancelling it, as `asyncio.wrap_future` does when its waiter is
        cancelled, kills the task.
        """
        request = _Request(data, field)
        with self._lock:
            if self._closed.is_set():
                raise RuntimeError("the decode pool is closed")
            self._start()
            self._waiting.append(request)
        self._dispatch()
        return request.answer

    def _dispatch(self) -> None:
        """Hand over one task to run and one to follow for each worker; those that wait here cost nothing to cancel."""
        with self._lock:
            while self._waiting and len(self._handed_over) < 2 * self.workers and not self._closed.is_set():
                request = self._waiting.popleft()
                if request.answer.cancelled():
                    continue
                arguments = [self._reader, request.data, request.field, self._limits]
                try:
                    task = self._pool.schedule(_decode, args=arguments, timeout=self._seconds)
                except RuntimeError:
                    # The pool is broken; the keeper replaces it and dispatches again.
                    self._waiting.appendleft(request)
                    return
                request.attempts += 1
                self._handed_over.add(request)
                request.answer.add_done_callback(partial(_kill_if_cancelled, task))
                task.add_done_callback(partial(self._finish, request, self._pool))

    def _finish(self, request: _Request, pool: ProcessPool, task: Future[Image | InputError]) -> None:
        broken = not task.cancelled() and isinstance(task.exception(), BrokenProcessPool)
        with self._lock:
            # What a broken pool says of a task is of no interest: the keeper hands it over again.
            if broken or pool is not self._pool or request not in self._handed_over:
                return
            self._handed_over.remove(request)
        self._dispatch()
        request.finish(_result(task, request.field, self._seconds))

    def decode(self, data: bytes | Path, field: str = "image") -> Image:
        """Decode one image and wait for it.

        Raises
        ------
        InputError
            What the reader refused, with its field.
        DecodeFailed
            The decoder hung, died, or ran out of memory.
        """
        return self.submit(data, field).result()

    def map(self, sources: Iterable[bytes | Path], field: str = "images") -> Iterator[Image | InputError]:
        """Decode many images, in order, holding a few times `workers` of them at once.

        An image that is refused comes out as its error, with the field ``images[i]``, and the others go on.
        """
        waiting: deque[Future[Image]] = deque()
        try:
            for index, source in enumerate(sources):
                waiting.append(self.submit(source, f"{field}[{index}]"))
                if len(waiting) >= 4 * self.workers:
                    yield _image_or_error(waiting.popleft())
            while waiting:
                yield _image_or_error(waiting.popleft())
        finally:
            for future in waiting:
                future.cancel()

    def close(self) -> None:
        """Kill the workers; tasks under way are cancelled."""
        with self._lock:
            if self._closed.is_set():
                return
            self._closed.set()
        self._pool.stop()  # type: ignore[no-untyped-call]
        self._pool.join()
        with self._lock:
            left = [*self._handed_over, *self._waiting]
            self._handed_over.clear()
            self._waiting.clear()
        for request in left:
            # A stopped pool forgets its tasks; whoever waits for one would wait for ever.
            request.finish(_closed_early(request.field))

    def __enter__(self) -> DecodePool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def _image_or_error(future: Future[Image]) -> Image | InputError:
    try:
        return future.result()
    except InputError as error:
        return error


@dataclass(slots=True, eq=False)
class _Request:
    data: bytes | Path
    field: str
    answer: Future[Image] = dataclass_field(default_factory=Future)
    attempts: int = 0

    def finish(self, result: Image | InputError) -> None:
        if not self.answer.set_running_or_notify_cancel():
            return
        if isinstance(result, InputError):
            self.answer.set_exception(result)
        else:
            self.answer.set_result(result)


def _kill_if_cancelled(task: Future[Image | InputError], answer: Future[Image]) -> None:
    # To cancel a task that no worker has begun would kill the worker that comes to it, for nothing.
    if answer.cancelled() and task.running():
        task.cancel()


def _closed_early(field: str) -> DecodeFailed:
    return DecodeFailed(field, "cancelled", "must be decoded before the pool closes")


def _result(task: Future[Image | InputError], field: str, seconds: float) -> Image | InputError:
    """What came of a worker's task."""
    try:
        return task.result()
    except TimeoutError:
        return DecodeFailed(field, "timed out", f"must be decodable within {seconds:g} seconds")
    except CancelledError:
        return _closed_early(field)
    except MemoryError:
        return DecodeFailed(field, "out of memory", "must be decodable within the memory of a worker")
    except Exception as error:
        # ProcessExpired of a killed worker, or whatever the reader did not turn into an error of ours.
        return DecodeFailed(field, type(error).__name__, "must be decodable")


# In the worker ---------------------------------------------------------------------------------------------------


def _nothing() -> None:
    """The first task: it starts the workers."""


def _decode(reader: ImageReader, data: bytes | Path, field: str, limits: Limits) -> Image | InputError:
    # Returned, not raised: a traceback sent along would be logged with what it quotes.
    try:
        return reader(_bytes(data, field, limits) if isinstance(data, Path) else data, field=field, limits=limits)
    except InputError as error:
        return error


def _bytes(path: Path, field: str, limits: Limits) -> bytes:
    try:
        limits.check_bytes(path.stat().st_size)
        return path.read_bytes()
    except InputError as error:
        raise error.at(field) from None
    except OSError as error:
        raise UnreadableImage(field, str(path), f"must be a readable file ({error.strerror})") from None


def _prepare_worker(parent: int, memory_bytes: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    soft = memory_bytes if hard == resource.RLIM_INFINITY else min(memory_bytes, hard)
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
