"""What the served network costs on a GPU, and how near that is to what the GPU can: ``python benchmarks/gpu.py``.

Each way of running it (``--ways``) answers batches that lie in pinned memory of the host, transfer there and back
counted, one way after the other in each round:

- ``eager``, ``bf16``: the service's backends;
- ``compiled``: ``bf16`` under ``torch.compile``, without the fused transformer layer, whose shapes it does not know;
- ``graph``: ``bf16`` replayed as a CUDA graph.

*of the roofline* is the share of what a large matrix product reaches on the same device, in the same precision and the
same round: the network's floating-point operations (``torch.utils.flop_counter``) over its time. A way that cannot run
here, or whose probabilities are further from eager's than `Tolerance` lets a backend be, says so in its row. Without a
GPU the same is measured on the CPU, all ways but the graph.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import cycle, islice
from pathlib import Path

import numpy as np
import torch
from _options import read_options
from _random_model import model_folder
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from consilium.inference.backends.network import Network, build_network
from consilium.inference.diagnostician import Diagnostician
from consilium.inference.self_test import Backend, Tolerance
from consilium.network.diagnosis_model import DiagnosisModel, Logits
from consilium.preprocessing.batch import Batch

Answer = Callable[[Batch], Tensor]
"""From a batch in the host's memory to the fused logits there."""


class CannotRun(Exception):
    """A way of running the network that this device or this network does not allow."""


@dataclass
class Measured:
    """One way at one size of batch."""

    answer: Answer
    dtype: torch.dtype
    deviation: float
    seconds: list[float] = field(default_factory=list)
    shares: list[float] = field(default_factory=list)


def of_network(network: Network, device: torch.device) -> Answer:
    def answer(batch: Batch) -> Tensor:
        return network(batch.to(device, non_blocking=True)).fused.float().cpu()

    return answer


def unfused(network: Network) -> Network:
    def run(batch: Batch) -> Logits:
        before = torch.backends.mha.get_fastpath_enabled()
        torch.backends.mha.set_fastpath_enabled(value=False)
        try:
            return network(batch)
        finally:
            torch.backends.mha.set_fastpath_enabled(before)

    return run


def of_graph(network: Network, device: torch.device, example: Batch) -> Answer:
    """Recorded once for the shapes of `example`; every batch is copied to where the recording reads."""
    if device.type != "cuda":
        raise CannotRun("a CUDA graph needs a GPU")
    fixed = example.to(device)
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        for _ in range(3):  # what is allocated at the first calls is no part of the recording
            network(fixed)
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found = network(fixed).fused
    places = tensors(fixed)

    def answer(batch: Batch) -> Tensor:
        for place, given in zip(places, tensors(batch), strict=True):
            place.copy_(given, non_blocking=True)
        graph.replay()
        return found.float().cpu()

    return answer


def tensors(batch: Batch) -> list[Tensor]:
    return [tensor for of_modality in batch.inputs.values() for tensor in of_modality.values()]


def begin(way: str, model: DiagnosisModel, batch: Batch, device: torch.device) -> tuple[Answer, torch.dtype]:
    if way == "eager":
        return of_network(build_network(Backend.EAGER, model), device), torch.float32
    network = build_network(Backend.BF16, model)
    if way == "compiled":
        network = unfused(torch.compile(network, dynamic=False))
    if way == "graph":
        return of_graph(network, device, batch), torch.bfloat16
    return of_network(network, device), torch.bfloat16


def product_rate(device: torch.device, dtype: torch.dtype, side: int, seconds: float) -> float:
    """Floating-point operations a second of a product of two square matrices."""
    one, other = (torch.rand(side, side, device=device, dtype=dtype) for _ in range(2))
    done, begun = 0, time.perf_counter()
    while (taken := time.perf_counter() - begun) < seconds:
        one @ other
        if device.type == "cuda":
            torch.cuda.synchronize()
        done += 1
    return done * 2 * side**3 / taken


def operations(model: DiagnosisModel, batch: Batch, device: torch.device) -> int:
    """Floating-point operations of one batch."""
    with FlopCounterMode(display=False) as counter:
        model(batch.to(device))
    return int(counter.get_total_flops())


def times(answer: Answer, batch: Batch, seconds: float) -> list[float]:
    found: list[float] = []
    until = time.perf_counter() + seconds
    while not found or time.perf_counter() < until:
        begun = time.perf_counter()
        answer(batch)
        found.append(time.perf_counter() - begun)
    return found


def batch_of(diagnostician: Diagnostician, size: int, device: torch.device) -> Batch:
    whole = [diagnostician.prepare(reference.study()) for reference in diagnostician.references.studies]
    whole = [item for item in whole if len(item.present) == len(diagnostician.recipe.modalities)]
    batch = diagnostician.preprocessing.collate(list(islice(cycle(whole), size)))
    return batch.pin_memory() if device.type == "cuda" else batch


def measured(
    diagnostician: Diagnostician, size: int, given: argparse.Namespace, device: torch.device
) -> tuple[dict[str, Measured], dict[str, str]]:
    """Each way that runs, and why the others do not."""
    batch = batch_of(diagnostician, size, device)
    model = diagnostician.model
    count = operations(model, batch, device)
    found: dict[str, Measured] = {}
    reasons: dict[str, str] = {}
    plain = of_network(model, device)(batch)
    for way in given.ways.split(","):
        try:
            answer, dtype = begin(way, model, batch, device)
            off = (torch.sigmoid(answer(batch)) - torch.sigmoid(plain)).abs().max().item()
        except (CannotRun, RuntimeError, AssertionError) as error:
            reasons[way] = str(error).splitlines()[0][:100]
        else:
            found[way] = Measured(answer, dtype, off)
    for _ in range(given.rounds):
        limits = {
            dtype: product_rate(device, dtype, given.side, given.seconds / 4)
            for dtype in {one.dtype for one in found.values()}
        }
        for one in found.values():
            taken = times(one.answer, batch, given.seconds)
            one.seconds += taken
            one.shares.append(count / statistics.median(taken) / limits[one.dtype])
    return found, reasons


def rows(size: int, found: dict[str, Measured], reasons: dict[str, str]) -> list[list[str]]:
    medians = {way: statistics.median(one.seconds) for way, one in found.items()}
    lines = []
    for way, one in found.items():
        p50, p99 = (1000 * float(np.quantile(one.seconds, share)) for share in (0.5, 0.99))
        beside = f"{medians['eager'] / medians[way]:.2f}" if "eager" in medians else ""
        off = f"{one.deviation:.1g}" + ("" if one.deviation <= Tolerance().backend else ", too far")
        figures = [f"{size / medians[way]:.1f}", beside, f"{p50:.2f}", f"{p99:.2f}"]
        lines.append([way, str(size), *figures, f"{statistics.median(one.shares):.1%}", off])
    return lines + [[way, str(size), reason, "", "", "", "", ""] for way, reason in reasons.items()]


def main(argv: Sequence[str] | None = None) -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--model", type=Path, help="a model folder; a random DenseNet121 at 224 pixels unless given")
    arguments.add_argument("--encoder", default="densenet121")
    arguments.add_argument("--size", type=int, default=224)
    arguments.add_argument("--device", default="auto", help="auto: a GPU where there is one")
    arguments.add_argument("--ways", default="eager,bf16,compiled,graph")
    arguments.add_argument("--batches", default="1,8,32")
    arguments.add_argument("--side", type=int, default=8192, help="of the matrices of the limit")
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--seconds", type=float, default=2.0, help="of each measurement")
    small = {"encoder": "resnet18", "size": 64, "device": "cpu", "ways": "eager,bf16,graph", "batches": "2", "side": 64}
    given = read_options(arguments, argv, **small, rounds=1, seconds=0.01)
    chosen = ("cuda" if torch.cuda.is_available() else "cpu") if given.device == "auto" else given.device
    device = torch.device(chosen)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {torch.get_num_threads()} thread(s)"
    columns = ("way", "batch", "studies/s", "of eager", "p50 ms", "p99 ms", "of the roofline", "furthest from eager")
    with model_folder(given.model, given.encoder, given.size) as folder, torch.inference_mode():
        diagnostician = Diagnostician.load(folder, chosen, Backend.EAGER)
        image = diagnostician.recipe.modalities["image"]
        table = Table(
            *columns, title=f"{image.encoder}, {image.size} × {image.size}, {name}, torch {torch.__version__}"
        )
        for size in map(int, given.batches.split(",")):
            for row in rows(size, *measured(diagnostician, size, given, device)):
                table.add_row(*row)
    Console(width=160).print(table)


if __name__ == "__main__":
    main()
