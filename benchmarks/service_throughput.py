"""The service over HTTP against the bare model: ``python benchmarks/service_throughput.py [--model FOLDER]``.

Requests with a small PNG, a note, two values and age come from 1, 4 and 16 callers at once. Beside each, in the same
round, the bare model is called in a loop on tensors in memory, with the same number of threads: one study at a time,
and at the batch size that is best. The shares are the medians over the rounds.

Callers, web server and decoder run beside the model's thread: on two cores they take from it what the bare loop keeps.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import os
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import torch
from _random_model import model_folder, study
from PIL import Image as Picture
from rich.console import Console
from rich.table import Table

from consilium.diagnostician import Diagnostician
from service.launch import RunningService

CONCURRENCIES = (1, 4, 16)
BATCHES = (1, 2, 4, 8, 16)


@dataclass
class Measured:
    """Studies a second of the service and of the bare model, per round, and the latency of every request."""

    service: list[float] = field(default_factory=list)
    single: list[float] = field(default_factory=list)
    best: list[float] = field(default_factory=list)
    latencies: list[float] = field(default_factory=list)


def request_parts(side: int) -> list[tuple[str, Any]]:
    sent = study(0, side)
    data = io.BytesIO()
    Picture.fromarray((sent.images[0].pixels >> 8).astype("uint8")).save(data, "PNG")
    records = {
        "notes": [{"kind": note.kind.value, "text": note.text} for note in sent.notes],
        "observations": [{"code": o.code, "value": o.given_value, "unit": o.given_unit} for o in sent.observations],
        "patient": {"age": sent.patient.age, "sex": sent.patient.sex.value},
    }
    return [("images", ("x", data.getvalue())), ("request", (None, json.dumps(records), "application/json"))]


async def call(url: str, parts: list[tuple[str, Any]], callers: int, seconds: float) -> tuple[float, list[float]]:
    """Answers a second and their latencies, from `callers` that each wait for one answer before the next request."""
    latencies: list[float] = []
    # The body is encoded once: what the callers cost is not the question.
    sample = httpx.Request("POST", url, files=parts)
    body, headers = sample.read(), {"Content-Type": sample.headers["Content-Type"]}
    end = time.perf_counter() + seconds

    async def caller(client: httpx.AsyncClient) -> None:
        while time.perf_counter() < end:
            begun = time.perf_counter()
            answer = await client.post(url, content=body, headers=headers)
            answer.raise_for_status()
            latencies.append(time.perf_counter() - begun)

    async with httpx.AsyncClient(timeout=120) as client:
        begun = time.perf_counter()
        await asyncio.gather(*[caller(client) for _ in range(callers)])
        return len(latencies) / (time.perf_counter() - begun), latencies


def bare(diagnostician: Diagnostician, size: int, seconds: float) -> float:
    """Studies a second of the model alone, in batches of `size`."""
    batch = diagnostician.preprocessing.collate([diagnostician.prepare(study(n, 64)) for n in range(size)])
    done, begun = 0, time.perf_counter()
    with torch.inference_mode():
        while (taken := time.perf_counter() - begun) < seconds:
            diagnostician.model(batch)
            done += size
    return done / taken


def best_batch(diagnostician: Diagnostician, seconds: float) -> int:
    rates = {size: bare(diagnostician, size, seconds) for size in BATCHES}
    return max(rates, key=lambda size: rates[size])


def quantile(values: Sequence[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def report(measured: dict[int, Measured], title: str) -> None:
    table = Table(
        "callers", "answers/s", "p50 ms", "p95 ms", "bare, one/s", "share", "bare, best/s", "share", title=title
    )
    for callers, m in measured.items():
        shares = [[s / b for s, b in zip(m.service, loop, strict=True)] for loop in (m.single, m.best)]
        table.add_row(
            str(callers),
            f"{statistics.median(m.service):.1f}",
            f"{1000 * quantile(m.latencies, 0.5):.1f}",
            f"{1000 * quantile(m.latencies, 0.95):.1f}",
            f"{statistics.median(m.single):.1f}",
            f"{statistics.median(shares[0]):.2f}",
            f"{statistics.median(m.best):.1f}",
            f"{statistics.median(shares[1]):.2f}",
        )
    Console().print(table)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--model", type=Path, help="a model folder; a random DenseNet121 at 224 pixels unless given")
    arguments.add_argument("--encoder", default="densenet121")
    arguments.add_argument("--size", type=int, default=224)
    arguments.add_argument("--side", type=int, default=224, help="pixels of the PNG sent")
    arguments.add_argument("--threads", type=int, default=1)
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--seconds", type=float, default=3.0, help="of each measurement")
    given = arguments.parse_args()
    torch.set_num_threads(given.threads)
    parts = request_parts(given.side)
    measured = {callers: Measured() for callers in CONCURRENCIES}
    with model_folder(given.model, given.encoder, given.size) as folder, TemporaryDirectory() as home:
        diagnostician = Diagnostician.load(folder, "cpu")
        best = best_batch(diagnostician, given.seconds / 2)
        os.environ["CONSILIUM_HOME"] = home  # What it answers is no part of the user's record.
        with RunningService(folder, {"model_threads": given.threads, "device": "cpu"}) as service:
            for _ in range(given.rounds):
                for callers, m in measured.items():
                    rate, latencies = asyncio.run(call(f"{service.url}/v1/diagnose", parts, callers, given.seconds))
                    m.service.append(rate)
                    m.latencies.extend(latencies)
                    m.single.append(bare(diagnostician, 1, given.seconds / 2))
                    m.best.append(bare(diagnostician, best, given.seconds / 2))
    encoder = diagnostician.recipe.image.encoder
    report(measured, f"{encoder}, {given.threads} thread(s), PNG {given.side} × {given.side}; best batch {best}")


if __name__ == "__main__":
    main()
