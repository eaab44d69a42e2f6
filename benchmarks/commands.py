"""What a command costs before it does anything: ``python benchmarks/commands.py [--model FOLDER] [--rounds 5]``.

Every command runs in a process of its own, round by round beside ``python -c 'import mlflow'`` and ``'import torch'``,
whose seconds say how fast the machine is just now. Medians of the CPU time are given (wall time would measure the
neighbours too), the ratios to both, and which packages' imports the time went to (``-X importtime``, itself no part of
the figures). `diagnose` reads one film of 1024 × 1024 pixels with a random DenseNet121
and explains the findings that it calls, thoroughly and fast. Its answer comes before: the last row is the CPU time of
its own process until then, beside which another one decodes the film.
"""

from __future__ import annotations

import argparse
import os
import re
import resource
import statistics
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil
from _options import read_options
from _random_model import model_folder
from PIL import Image
from rich.console import Console
from rich.table import Table

ANSWER = "diagnose, until its answer"
MLFLOW, TORCH = "python -c 'import mlflow'", "python -c 'import torch'"
_IMPORTED = re.compile(r"import time:\s+(\d+) \|\s+\d+ \|\s*([^.\s]+)")
_SHOWN = 5


def commands(model: Path, film: Path) -> dict[str, list[str]]:
    cli = ["-m", "consilium.cli"]
    return {
        MLFLOW: ["-c", "import mlflow"],
        TORCH: ["-c", "import torch"],
        "models list": [*cli, "models", "list"],
        "keys list": [*cli, "keys", "list"],
        "audit-log new-key": [*cli, "audit-log", "new-key"],
        "jobs --help": [*cli, "jobs", "--help"],
        "check --help": [*cli, "check", "--help"],
        "diagnose": [*cli, "diagnose", str(model), "--image", str(film)],
        "diagnose --level fast": [*cli, "diagnose", str(model), "--image", str(film), "--level", "fast"],
    }


def seconds(command: Sequence[str], room: Path, environment: Mapping[str, str]) -> float:
    """CPU seconds of the process and of those that it waited for."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *command], cwd=room, env=environment, capture_output=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def seconds_to_output(command: Sequence[str], room: Path, environment: Mapping[str, str]) -> float:
    """CPU seconds of the process alone, until it writes something."""
    quiet: dict[str, Any] = {"cwd": room, "env": {**environment, "PYTHONUNBUFFERED": "1"}, "stderr": subprocess.DEVNULL}
    with subprocess.Popen([sys.executable, *command], stdout=subprocess.PIPE, **quiet) as process:
        assert process.stdout is not None
        if not process.stdout.read(1):
            raise RuntimeError(f"{' '.join(command)} wrote nothing")
        taken = psutil.Process(process.pid).cpu_times()
        process.stdout.read()
    return float(taken.user + taken.system)


def import_shares(command: Sequence[str], room: Path, environment: Mapping[str, str]) -> str:
    """Seconds of importing in all, and of the packages that took most of it."""
    arguments = [sys.executable, "-X", "importtime", *command]
    ended = subprocess.run(arguments, cwd=room, env=environment, capture_output=True, text=True, check=True)
    taken: Counter[str] = Counter()
    for line in ended.stderr.splitlines():
        found = _IMPORTED.match(line)
        if found:
            taken[found[2]] += int(found[1])
    total = sum(taken.values())
    most = ", ".join(f"{name} {share / total:.0%}" for name, share in taken.most_common(_SHOWN))
    return f"{total / 1e6:.2f} s: {most}"


def main(argv: Sequence[str] | None = None) -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--model", type=Path, help="a model folder; a random DenseNet121 at 224 pixels unless given")
    arguments.add_argument("--encoder", default="densenet121")
    arguments.add_argument("--size", type=int, default=224)
    arguments.add_argument("--film", type=int, default=1024, help="pixels of the film's side")
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--only", nargs="+", help="these commands alone")
    few = [MLFLOW, TORCH, "models list"]
    given = read_options(arguments, argv, encoder="resnet18", size=64, film=64, rounds=1, only=few)
    with model_folder(given.model, given.encoder, given.size) as model, TemporaryDirectory() as folder:
        room = Path(folder)
        film = room / "film.png"
        Image.effect_noise((given.film, given.film), 64).save(film)
        environment = os.environ | {"CONSILIUM_HOME": folder, "PYTHONPATH": str(Path(__file__).parents[1])}
        environment["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder}/mlflow.db"
        make = "from mlflow import MlflowClient; MlflowClient().search_registered_models()"
        seconds(["-c", make], room, environment)
        ways = {name: way for name, way in commands(model.resolve(), film).items() if name in (given.only or (name,))}
        measures = {name: (seconds, way) for name, way in ways.items()}
        if "diagnose" in ways:
            measures[ANSWER] = (seconds_to_output, ways["diagnose"])
        taken: dict[str, list[float]] = {name: [] for name in measures}
        for _ in range(given.rounds):
            for name, (measure, way) in measures.items():
                taken[name].append(measure(way, room, environment))
        shares = {name: import_shares(way, room, environment) for name, way in ways.items()}
    medians = {name: statistics.median(values) for name, values in taken.items()}
    table = Table("command", "CPU s", "× import mlflow", "× import torch", "imports")
    for name, median in medians.items():
        ratios = [f"{median / medians[one]:.2f}" if one in medians else "" for one in (MLFLOW, TORCH)]
        table.add_row(name, f"{median:.2f}", *ratios, shares.get(name, ""))
    Console(width=160).print(table)


if __name__ == "__main__":
    main()
