"""What reading a laboratory result costs: ``python benchmarks/gateway_values.py [--values 10 100 1000] [--rounds 20]``.

Messages (ORU^R01) with so many values each are read from their bytes to the records that the store is given: character
set, segments, unit, status, time. The second table has messages with one text of so many lines. What an item costs
stays the same, however many a message has.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from _options import read_options
from rich.console import Console
from rich.table import Table

from hospital.hl7.messages import parse
from hospital.hl7.receiving import nothing_earlier, read
from hospital.hl7.source import Source
from hospital.terminology.site_tables import CodeTable, Terminology

NOW = datetime(2026, 1, 5, 12, tzinfo=UTC)
LABORATORY = Source("laboratory", Terminology(documents=CodeTable([("L", "ANAM", "history")])))
_HEAD = (
    "MSH|^~\\&|LIS|LAB|CONSILIUM|HOSPITAL|20260105100000+0100||ORU^R01^ORU_R01|1|P|2.5.1||||||UNICODE UTF-8",
    "PID|1||4711^^^NORTH^MR||Müller^Anna||19600203|F",
    "OBR|1|P1|F1^LIS|CHEM^Chemistry^L|||20260105094500+0100",
)


def values_message(count: int) -> bytes:
    """A message with `count` values."""
    lines = (f"OBX|{one}|NM|1988-5^CRP^LN|{one}|{one}.5|mg/L|||||F|||20260105094500+0100" for one in range(count))
    return "\r".join([*_HEAD, *lines]).encode()


def text_message(count: int) -> bytes:
    """A message with one text of `count` lines, an OBX each."""
    lines = (f"OBX|{one}|TX|ANAM^History^L||Husten seit {one} Tagen, kein Fieber||||||F" for one in range(count))
    return "\r".join([*_HEAD, *lines]).encode()


def seconds_of(content: bytes, rounds: int) -> float:
    """The median of `rounds` readings, in CPU seconds."""
    taken = []
    for _ in range(rounds):
        start = time.process_time()
        found = read(parse(content), content, LABORATORY, NOW, nothing_earlier)
        taken.append(time.process_time() - start)
        assert found.records
    return statistics.median(taken)


def table(title: str, item: str, made: Callable[[int], bytes], counts: Sequence[int], rounds: int) -> Table:
    """What `item` costs in messages of each count, beside the smallest count."""
    shown = Table(title=title)
    for column in (f"{item}s a message", f"µs a {item}", f"{item}s a second", "beside the first"):
        shown.add_column(column, justify="right")
    costs = [seconds_of(made(count), rounds) / count for count in counts]
    for count, cost in zip(counts, costs, strict=True):
        shown.add_row(str(count), f"{cost * 1e6:.0f}", f"{1 / cost:,.0f}", f"{cost / costs[0]:.2f}")
    return shown


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--values", type=int, nargs="+", default=[10, 100, 1000])
    parser.add_argument("--rounds", type=int, default=20)
    options = read_options(parser, arguments, values=[2, 20], rounds=1)
    console = Console()
    for title, item, made in (("values", "value", values_message), ("text", "line", text_message)):
        console.print(table(title, item, made, options.values, options.rounds))


if __name__ == "__main__":
    main()
