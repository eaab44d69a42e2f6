"""``python -m tests.soak [--requests N]``: soak a service and say what came of it. Exit code 1: it failed."""

from __future__ import annotations

import argparse
import logging
import signal
import statistics
import sys
from collections import Counter
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console
from rich.table import Table

from tests.soak.campaign import Plan, Soaked, run
from tests.soak.verdict import failures


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--concurrency", type=int, default=32)
    arguments = parser.parse_args()
    # Ended from outside, the servers end, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    # MLflow wonders that the bad version answers no example.
    logging.getLogger("mlflow").setLevel(logging.CRITICAL)
    console = Console()

    def tell(line: str) -> None:
        console.print(f"[dim]{datetime.now():%H:%M:%S}[/] {line}", highlight=False)

    with TemporaryDirectory(prefix="consilium-soak-") as folder:
        soaked = run(Plan(arguments.requests, arguments.concurrency), Path(folder), tell)
        found = failures(soaked)
    console.print(table(soaked))
    for failure in found:
        console.print(f"[bold red]failed[/]: {failure}", highlight=False)
    return 1 if found else 0


def table(soaked: Soaked) -> Table:
    """The figures."""
    outcome, trouble = soaked.outcome, soaked.trouble
    shown = Table(show_header=False, title=f"{soaked.plan.requests} requests, {soaked.plan.concurrency} at once")
    milliseconds = [1000 * (answer.ended - answer.begun) for answer in outcome.answers]
    cuts = statistics.quantiles(milliseconds, n=100)
    shown.add_row("answered", f"{len(outcome.answers)}, of which {_counted(_versions(soaked))}")
    shown.add_row("refused", f"{outcome.refused.total()} hostile: {_counted(outcome.refused)}")
    shown.add_row(
        "made again",
        f"{len(outcome.retried)} requests, {outcome.attempts.total()} attempts: {_counted(outcome.attempts)}",
    )
    shown.add_row("latency", f"median {cuts[49]:.0f} ms, 95 % below {cuts[94]:.0f}, 99 % below {cuts[98]:.0f}")
    for what, begun, ended in trouble.down:
        shown.add_row(what, f"ready again after {ended - begun:.1f} s")
    for swap in trouble.swaps:
        held = f"{swap.before >> 20} -> {swap.after >> 20} MiB held idle ({swap.after / swap.before - 1:+.1%})"
        shown.add_row(f"move to {swap.version}", f"{swap.seconds:.1f} s, {held}")
    shown.add_row("in all", f"{soaked.seconds:.0f} s, {soaked.plan.requests / soaked.seconds:.0f} requests a second")
    return shown


def _versions(soaked: Soaked) -> Counter[str]:
    return Counter(f"version {answer.version}" for answer in soaked.outcome.answers)


def _counted(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items())) or "none"


if __name__ == "__main__":
    sys.exit(main())
