"""Data parallel training: processes on this machine that share every batch, started by torchrun.

    torchrun --nproc-per-node 2 -m consilium.cli train RECIPE --cohort DIR --set training.devices=2

One process leads and runs the pipeline, so that everything is recorded once; the others only train along.
`process_group` is open for as long as they are needed, `together` runs one function in all of them. `relaunch` is for
commands: it starts torchrun where that was not done.
"""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed import PrefixStore, Store  # type: ignore[attr-defined]
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.rendezvous import rendezvous

from consilium.domain.errors import InputError, TrainingError

_TIMEOUT = timedelta(minutes=30)  # of a process that waits for the others within a step
_PAUSE_S = 0.1  # between two looks at whether there is work
_GO, _END = "go", "end"


def relaunch(devices: int, arguments: list[str]) -> int | None:
    """Run this command again with `arguments` in `devices` processes of torchrun, and wait for them.

    Returns
    -------
    int or None
        Exit status of the process that failed first, or 0. None, and nothing was started, where one process is enough
        or torchrun has started this one.
    """
    if devices == 1 or dist.is_torchelastic_launched():
        return None
    from torch.distributed.run import main as torchrun

    # Else every process writes a C++ warning that no parameter was unused, where dropped modalities leave some unused.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    logging.getLogger("torch.distributed").setLevel(logging.CRITICAL)  # a process that failed has given its reason
    try:
        torchrun(["--standalone", "--nproc-per-node", str(devices), "-m", "consilium.cli", *arguments])
    except ChildFailedError as error:
        _, failure = error.get_first_failure()
        return int(failure.exitcode)
    return 0


@dataclass(slots=True, eq=False)
class _Group:
    """The processes as one of them sees them: it is number `rank` of `size`, and `calls` were made so far."""

    store: Store
    rank: int
    size: int
    calls: int = 0

    @contextmanager
    def joined(self) -> Iterator[None]:
        """Initialised for the time of one call: between calls nobody waits for anybody."""
        # Over the loopback interface only: what the processes exchange is patients' data.
        os.environ["GLOO_SOCKET_IFNAME"] = os.environ["NCCL_SOCKET_IFNAME"] = "lo"
        backend = "gloo"
        if torch.cuda.is_available():
            backend = "cpu:gloo,cuda:nccl"
            torch.cuda.set_device(self.rank)
        store = PrefixStore(f"group/{self.calls}", self.store)
        dist.init_process_group(backend, store=store, rank=self.rank, world_size=self.size, timeout=_TIMEOUT)
        try:
            yield
        finally:
            dist.destroy_process_group()

    def call(self, word: str) -> None:
        self.calls += 1
        self.store.set(f"call/{self.calls}", word)

    def next_call(self) -> str:
        """Wait for it."""
        self.calls += 1
        key = f"call/{self.calls}"
        while not self.store.check([key]):
            time.sleep(_PAUSE_S)
        return str(self.store.get(key), "ascii")


_open: _Group | None = None


@contextmanager
def process_group(devices: int) -> Iterator[bool]:
    """The `devices` processes that torchrun started, for as long as this is open; inside another group, that one.

    Yields
    ------
    bool
        This process leads. False, and only after all is done, in one that trains along.

    Raises
    ------
    TrainingError
        There are fewer GPUs than `devices`, or torchrun started another number of processes.
    """
    started = _open.size if _open is not None else _torchrun_size()
    if started != devices:
        raise TrainingError(
            f"training.devices is {devices} and {started} process(es) were started; start as many: "
            f"torchrun --nproc-per-node {devices} -m consilium.cli ..."
        )
    gpus = torch.cuda.device_count()
    if 0 < gpus < devices:
        raise TrainingError(f"training.devices is {devices}, and this machine has {gpus} GPU(s)")
    if devices == 1 or _open is not None:
        yield True
    elif int(os.environ["RANK"]) > 0:
        _train_along(_joining())
        yield False
    else:
        with _led(_joining()):
            yield True


@contextmanager
def together(function: Callable[..., object], *arguments: Any) -> Iterator[None]:
    """While the body runs here, run ``function(*arguments)`` in every other process of the group that is open."""
    if _open is None:
        yield
        return
    _open.call(_GO)
    with _open.joined():
        dist.broadcast_object_list([(function, arguments)], device=torch.device("cpu"))
        yield


def _train_along(group: _Group) -> None:
    """What every process but the leading one does: each call in turn, until there are no more."""
    logging.disable(logging.WARNING)  # the leading process logs the same
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl+C reaches all; the leading process decides
    while group.next_call() == _GO:
        # The leading process raises the same, and decides what it means.
        with group.joined(), suppress(TrainingError, InputError):
            received: list[Any] = [None]
            dist.broadcast_object_list(received, device=torch.device("cpu"))
            function, arguments = received[0]
            function(*arguments)


@contextmanager
def _led(group: _Group) -> Iterator[None]:
    global _open  # noqa: PLW0603 - a process is in one process group at a time, as torch has it
    _open = group
    try:
        yield
    finally:
        group.call(_END)
        _open = None


def _joining() -> _Group:
    store, number, size = next(rendezvous("env://", timeout=_TIMEOUT))
    return _Group(PrefixStore("consilium", store), number, size)


def _torchrun_size() -> int:
    """How many processes torchrun started; 1 where it started none."""
    if not dist.is_torchelastic_launched():
        return 1
    size = int(os.environ["WORLD_SIZE"])
    if size != int(os.environ["LOCAL_WORLD_SIZE"]):
        raise TrainingError("a training runs on one machine; start torchrun with --nnodes 1")
    return size
