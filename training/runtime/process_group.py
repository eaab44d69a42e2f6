"""Data parallel training: processes that share every batch, started by torchrun, on this machine or on several.

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
_INTERFACE = "GLOO_SOCKET_IFNAME"


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

    def __post_init__(self) -> None:
        # Over the loopback interface only where that suffices: what the processes exchange is patients' data.
        interface = os.environ[_INTERFACE] if machines() > 1 else "lo"
        os.environ[_INTERFACE] = interface
        os.environ["NCCL_SOCKET_IFNAME"] = interface

    @contextmanager
    def joined(self) -> Iterator[None]:
        """Initialised for the time of one call: between calls nobody waits for anybody."""
        backend = "gloo"
        if torch.cuda.is_available():
            backend = "cpu:gloo,cuda:nccl"
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
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
        torchrun started another number of processes than `devices`, or more on this machine than it has GPUs; or it
        started them on several machines that have unequal numbers of them or are not told over which network to talk.
    """
    started = _open.size if _open is not None else _torchrun_size()
    if started != devices:
        raise TrainingError(
            f"training.devices is {devices} and {started} process(es) were started; start as many: "
            f"torchrun --nproc-per-node {devices} -m consilium.cli ..."
        )
    here, gpus = devices // machines(), torch.cuda.device_count()
    if 0 < gpus < here:
        raise TrainingError(f"{here} processes were started on this machine, and it has {gpus} GPU(s)")
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


def machines() -> int:
    """On how many machines torchrun started the processes."""
    if not dist.is_torchelastic_launched():
        return 1
    return int(os.environ["WORLD_SIZE"]) // int(os.environ["LOCAL_WORLD_SIZE"])


def _torchrun_size() -> int:
    """How many processes torchrun started; 1 where it started none."""
    if not dist.is_torchelastic_launched():
        return 1
    size, here = int(os.environ["WORLD_SIZE"]), int(os.environ["LOCAL_WORLD_SIZE"])
    if size % here:
        raise TrainingError(
            f"torchrun started {size} processes, {here} of them on this machine; give every machine the same "
            "--nproc-per-node"
        )
    if size > here and not os.environ.get(_INTERFACE):
        raise TrainingError(
            f"{_INTERFACE} is not set; with several machines it must name the network interface of this machine over "
            "which they reach each other"
        )
    return size
