"""What a request costs beside the network: ``python benchmarks/service_throughput.py --null``.

A model that answers at once stands behind the real service (`benchmarks/_null_service.py`). Reported are requests a
second, and the CPU time of one request in the event loop, in the other threads of its process and in the decoders;
beside them what reading the image and preparing the study take alone, called in this process, and what a BentoML
service takes that receives the same body and does nothing with it (`benchmarks/_bare_service.py`). CPU time is
comparable on a machine that others use, too.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
from rich.table import Table

from consilium.inference.diagnostician import Diagnostician
from consilium.ingest.study_records import study_from_records
from consilium.modalities.image.records import read_image
from service.app.launch import RunningService

SERVICE = "benchmarks._null_service:Consilium"
BARE = "benchmarks._bare_service:Bare"
CALLERS = 16
_WARM = 40


@dataclass(frozen=True)
class Request:
    """A request's body and headers, and what of it is read."""

    body: bytes
    headers: dict[str, str]
    image: bytes
    records: Mapping[str, Any]


@dataclass
class Cost:
    """Of each round: requests a second, and milliseconds of CPU time per request."""

    rate: list[float] = field(default_factory=list)
    loop: list[float] = field(default_factory=list)
    threads: list[float] = field(default_factory=list)
    decoders: list[float] = field(default_factory=list)
    alone: list[float] = field(default_factory=list)
    bare: list[float] = field(default_factory=list)

    @property
    def whole(self) -> list[float]:
        return [sum(parts) for parts in zip(self.loop, self.threads, self.decoders, strict=True)]

    @property
    def shares(self) -> list[float]:
        return [whole / alone for whole, alone in zip(self.whole, self.alone, strict=True)]


def measure(
    folder: Path, diagnostician: Diagnostician, bodies: dict[str, Request], workers: Sequence[int], rounds: int, n: int
) -> dict[tuple[str, int], Cost]:
    """`n` requests of each kind a round, by number of decoders."""
    measured: dict[tuple[str, int], Cost] = {}
    for count in workers:
        settings = {"model_threads": 1, "device": "cpu", "decode_workers": count}
        with RunningService(folder, settings, bento=SERVICE) as one, RunningService(folder, bento=BARE) as bare:
            for request in bodies.values():
                for running in (one, bare):
                    asyncio.run(ask(running.url, request, _WARM))
            for _ in range(rounds):
                for name, request in bodies.items():
                    cost = measured.setdefault((name, count), Cost())
                    _round(cost, one, request, n)
                    cost.alone.append(alone(diagnostician, request, 20))
                    cost.bare.append(_bare(bare, request, n))
    return measured


def _round(cost: Cost, running: RunningService, request: Request, n: int) -> None:
    before, begun = _spent(running), time.perf_counter()
    asyncio.run(ask(running.url, request, n))
    seconds, after = time.perf_counter() - begun, _spent(running)
    cost.rate.append(n / seconds)
    for name, figures in (("loop", cost.loop), ("threads", cost.threads), ("decoders", cost.decoders)):
        figures.append(1000 * (after[name] - before[name]) / n)


def _bare(running: RunningService, request: Request, n: int) -> float:
    before = _spent(running)
    asyncio.run(ask(running.url, request, n))
    after = _spent(running)
    return 1000 * (sum(after.values()) - sum(before.values())) / n


def _spent(running: RunningService) -> dict[str, float]:
    """Seconds of CPU time so far."""
    below = psutil.Process(running.pid).children(recursive=True)
    (worker,) = [process for process in below if "--worker-id" in process.cmdline()]
    threads = {thread.id: thread.user_time + thread.system_time for thread in worker.threads()}
    decoders = [child for child in worker.children() if any("spawn_main" in word for word in child.cmdline())]
    loop = threads.pop(worker.pid)
    return {
        "loop": loop,
        "threads": sum(threads.values()),
        "decoders": sum(sum(decoder.cpu_times()[:2]) for decoder in decoders),
    }


async def ask(url: str, request: Request, n: int) -> None:
    """`n` requests from `CALLERS` connections that stay open, at little cost of the callers."""
    place = urlsplit(url)
    lines = ["POST /v1/diagnose HTTP/1.1", f"Host: {place.netloc}", f"Content-Length: {len(request.body)}"]
    lines += [f"{name}: {value}" for name, value in request.headers.items()]
    head = ("\r\n".join(lines) + "\r\n\r\n").encode()
    left = n

    async def caller() -> None:
        nonlocal left
        reader, writer = await asyncio.open_connection(place.hostname, place.port)
        while left > 0:
            left -= 1
            writer.writelines([head, request.body])
            answer = await reader.readuntil(b"\r\n\r\n")
            if not answer.startswith(b"HTTP/1.1 200"):
                raise RuntimeError(f"the service answered {answer[:60]!r}")
            length = next(line for line in answer.lower().split(b"\r\n") if line.startswith(b"content-length:"))
            await reader.readexactly(int(length.partition(b":")[2]))
        writer.close()

    await asyncio.gather(*[caller() for _ in range(CALLERS)])


def alone(diagnostician: Diagnostician, request: Request, n: int) -> float:
    """Milliseconds of CPU time to read the image and the records, and to prepare the study."""

    def once() -> None:
        diagnostician.prepare(study_from_records(images=[read_image(request.image)], **request.records))

    return statistics.median(_cpu(once) for _ in range(n))


def _cpu(do: Callable[[], None]) -> float:
    begun = time.process_time()
    do()
    return 1000 * (time.process_time() - begun)


def report(measured: dict[tuple[str, int], Cost]) -> Table:
    names = (
        "sent",
        "decoders",
        "requests/s",
        "loop",
        "other threads",
        "decoders",
        "together",
        "read + prepare",
        "share",
        "bare request",
    )
    table = Table(*names)
    table.title = f"A model that answers at once, {CALLERS} callers, {len(os.sched_getaffinity(0))} cores; CPU ms"
    for (sent, workers), cost in measured.items():
        figures = [cost.loop, cost.threads, cost.decoders, cost.whole, cost.alone]
        table.add_row(
            sent,
            str(workers),
            f"{statistics.median(cost.rate):.1f}",
            *[f"{statistics.median(one):.2f}" for one in figures],
            f"{statistics.median(cost.shares):.2f}",
            f"{statistics.median(cost.bare):.2f}",
        )
    return table
