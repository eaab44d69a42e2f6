"""Data parallel training: several processes on this machine that share every batch.

One process leads and runs the pipeline; the others only train along. They are started here, or by torchrun:

    torchrun --nproc-per-node 2 -m consilium.cli train RECIPE --cohort DIR --set training.devices=2

`company` is open for as long as the others are needed, `together` runs one function in all of them. The rest are the
few means that make a step over several processes the step that one process would make. Alone, they cost nothing.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed import FileStore, PrefixStore, Store  # type: ignore[attr-defined]
from torch.distributed.rendezvous import rendezvous

from consilium.domain.errors import InputError, TrainingError

_TIMEOUT = timedelta(minutes=30)  # of a process that waits for the others within a step
_GLANCE = 0.1  # seconds between two looks at whether there is work
_LAST_BREATH = 10.0  # seconds that a process which broke the connection may take to end
_GO, _END = "go", "end"


def rank() -> int:
    """Which of the processes this is; 0 leads."""
    return dist.get_rank() if dist.is_initialized() else 0


def world() -> int:
    """How many processes train together now."""
    return dist.get_world_size() if dist.is_initialized() else 1


@dataclass(frozen=True, slots=True)
class Share:
    """The part of a global batch that this process has: `count` of `studies`, from `first` on.

    What is drawn at random for a step is drawn for the global batch in every process, and each takes its part: the
    number of processes makes no difference to what happens to a study.
    """

    studies: int
    first: int
    count: int

    @classmethod
    def of_batch(cls, count: int) -> Share:
        """Of a local batch of `count` studies, where every process has as many."""
        return cls(count * world(), count * rank(), count)

    def take(self, draws: Tensor) -> Tensor:
        """The rows of `draws`, [studies, ...], that belong to this process."""
        return draws[self.first : self.first + self.count]


def mean_over_processes(values: Tensor) -> Tensor:
    """Mean of `values` over all processes, of the same shape everywhere; no gradient passes."""
    if world() == 1:
        return values
    total = values.detach().clone()
    dist.all_reduce(total)
    return total / world()


def average_statistics(model: nn.Module) -> None:
    """Give every process the mean of the running statistics of batch normalisation, which saw one share each."""
    statistics = [buffer for buffer in model.buffers() if buffer.is_floating_point()]
    if world() == 1 or not statistics:
        return
    means = mean_over_processes(torch.cat([buffer.flatten() for buffer in statistics]))
    for buffer, mean in zip(statistics, torch.split(means, [buffer.numel() for buffer in statistics]), strict=True):
        buffer.copy_(mean.view_as(buffer))


def average_gradients(gradients: Sequence[Tensor | None], like: Sequence[Tensor]) -> list[Tensor | None]:
    """Mean of each gradient over all processes, in one exchange; None where no process has one.

    Parameters
    ----------
    gradients : sequence of (Tensor or None)
    like : sequence of Tensor
        The parameters; None counts as zeros of their shape.
    """
    if world() == 1:
        return list(gradients)
    used = torch.tensor([float(gradient is not None) for gradient in gradients], device=like[0].device)
    filled = [torch.zeros_like(p) if g is None else g for g, p in zip(gradients, like, strict=True)]
    means = mean_over_processes(torch.cat([used, *(gradient.flatten() for gradient in filled)]))
    used, *parts = torch.split(means, [len(filled), *(gradient.numel() for gradient in filled)])
    return [
        mean.view_as(parameter) if anywhere > 0 else None
        for mean, parameter, anywhere in zip(parts, like, used.tolist(), strict=True)
    ]


# --- the processes ---------------------------------------------------------------------------------------------------


@dataclass(slots=True, eq=False)
class _Company:
    """The processes as one of them sees them: it is number `rank` of `size`, and `calls` were made so far.

    They agree through `store`; `others` are those that this one has started.
    """

    store: Store
    rank: int
    size: int
    others: tuple[BaseProcess, ...] = ()
    calls: int = 0

    def await_start(self) -> None:
        """Wait until every process that was started here has imported what it needs."""
        for number, process in enumerate(self.others, start=1):
            while not self.store.check([_ready(number)]):
                if not process.is_alive():
                    raise TrainingError(f"process {number} of the training did not start (exit {process.exitcode})")
                time.sleep(_GLANCE)

    def raise_for_the_dead(self, error: RuntimeError) -> None:
        """`TrainingError` where a process that was started here has ended on its own."""
        for number, process in enumerate(self.others, start=1):
            process.join(timeout=_LAST_BREATH)
            if process.exitcode is not None:
                raise TrainingError(f"process {number} of the training died (exit {process.exitcode})") from error

    @contextmanager
    def joined(self) -> Iterator[None]:
        """A process group for the time of one call: between calls nobody waits for anybody."""
        # Over the loopback interface only: what the processes tell each other is patients' data.
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

    def called(self) -> str:
        """Wait for the next call."""
        self.calls += 1
        key = f"call/{self.calls}"
        while not self.store.check([key]):
            time.sleep(_GLANCE)
        return str(self.store.get(key), "ascii")


_open: _Company | None = None


@contextmanager
def company(devices: int) -> Iterator[bool]:
    """`devices` processes, for as long as this is open; inside another company, that one.

    A script that opens one runs again in each process that is started, up to its ``if __name__ == "__main__"``.

    Yields
    ------
    bool
        This process leads. False, and only after all is done, in one that torchrun started to train along.

    Raises
    ------
    TrainingError
        There are fewer GPUs than `devices`, torchrun started another number of processes, or one of them died.
    """
    there = _open.size if _open is not None else _torchrun_size()
    if there and there != devices:
        raise TrainingError(f"training.devices is {devices}, and there are {there} process(es)")
    gpus = torch.cuda.device_count()
    if 0 < gpus < devices:
        raise TrainingError(f"training.devices is {devices}, and this machine has {gpus} GPU(s)")
    if devices == 1 or _open is not None:
        yield True
    elif not there:
        with _started(devices) as opened, _led(opened):
            yield True
    elif int(os.environ["RANK"]) > 0:
        _train_along(_from_torchrun())
        yield False
    else:
        with _led(_from_torchrun()):
            yield True


@contextmanager
def together(function: Callable[..., object], *arguments: Any) -> Iterator[None]:
    """While the body runs here, run ``function(*arguments)`` in every other process of the company that is open."""
    if _open is None:
        yield
        return
    _open.await_start()
    _open.call(_GO)
    with _open.joined():
        dist.broadcast_object_list([(function, arguments)], device=torch.device("cpu"))
        try:
            yield
        except RuntimeError as error:
            # What a lost connection looks like. A process that only waits for this one is still there.
            _open.raise_for_the_dead(error)
            raise


def _train_along(opened: _Company) -> None:
    """What every process but the leading one does: each call in turn, until there are no more."""
    logging.disable(logging.WARNING)  # the leading process says the same
    while opened.called() == _GO:
        with opened.joined():
            received: list[Any] = [None]
            dist.broadcast_object_list(received, device=torch.device("cpu"))
            function, arguments = received[0]
            function(*arguments)


@contextmanager
def _led(opened: _Company) -> Iterator[None]:
    global _open  # noqa: PLW0603 - a process is in one process group at a time, as torch has it
    _open = opened
    try:
        yield
    finally:
        opened.call(_END)
        _open = None


@contextmanager
def _started(devices: int) -> Iterator[_Company]:
    """A company of this process and others that it starts; they end with it, however it ends."""
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory(prefix="consilium-training-") as folder:
        meeting = Path(folder) / "store"
        others = [context.Process(target=_follow, args=(number, devices, meeting)) for number in range(1, devices)]
        for process in others:
            process.start()
        try:
            yield _Company(FileStore(str(meeting)), 0, devices, tuple(others))
            for process in others:
                process.join()
        finally:
            for process in others:
                process.kill()
                process.join()


def _follow(number: int, size: int, meeting: Path) -> None:
    """The life of a process that `_started` starts."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl+C reaches all; the leading process decides
    threading.Thread(target=_end_with_parent, daemon=True).start()
    store = FileStore(str(meeting))
    store.set(_ready(number), "")
    try:
        _train_along(_Company(store, number, size))
    except (TrainingError, InputError):  # the leading process raises the same
        sys.exit(1)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _from_torchrun() -> _Company:
    store, number, size = next(rendezvous("env://", timeout=_TIMEOUT))
    return _Company(PrefixStore("consilium", store), number, size)


def _torchrun_size() -> int:
    """How many processes torchrun started; 0 where it started none."""
    if not dist.is_torchelastic_launched():
        return 0
    size = int(os.environ["WORLD_SIZE"])
    if size != int(os.environ["LOCAL_WORLD_SIZE"]):
        raise TrainingError("a training runs on one machine; start torchrun with --nnodes 1")
    return size


def _ready(number: int) -> str:
    return f"ready/{number}"
