"""How often the monitor alarms without a reason, and how soon with one.

``python benchmarks/monitoring.py [--out F] [--page docs/monitoring.md]``

A small model is trained on a phantom cohort; its answers about fresh cohorts, as they are and shifted, are drawn with
replacement into streams of 100 a day. Years without drift: how many ever alarm, and how many would if each answer were
compared with the held-out studies alone. Shifts: days from the shift, after 60 quiet ones, to the first alarm. What is
done stands in ``--out``, a line of JSON each, and in ``--work``; an interrupted command goes on.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from _monitored import ALTERED, HOME, IDENTITY, SHIFTS, pool, trained
from _monitoring_page import A_DAY, QUIET_DAYS, summary
from _options import read_options
from _trained import stay_in

from consilium.artifacts.artifact import load_artifact
from consilium.monitoring.reference import MonitoringReference
from consilium.system.threads import limit_threads
from training.monitoring.alarms import DAY, YEAR_DAYS, AlarmRule, StreamEvidence, run_tests
from training.monitoring.answers import AnswerTable
from training.monitoring.betting import betting_functions, capital_after_change
from training.monitoring.exchangeability import against_fixed
from training.monitoring.monitor import WatchedModel

CONFIRMED = (0.15, 0.45)
"""Share of answers that are confirmed, of those that call nothing and of the others."""
DELAY_DAYS = 10.0


# --- streams ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Bench:
    """The model and its answers about a cohort from home, which years without drift are drawn from."""

    model: WatchedModel
    home: AnswerTable

    def reference(self, rng: np.random.Generator) -> MonitoringReference:
        """That of another set of held-out studies, as many, drawn from where the stream comes from."""
        own = self.model.reference
        rows = {}
        for part, values in own.rows.items():
            known = self.home.projections[part]
            known = known[~np.isnan(known).any(axis=1)]
            rows[part] = own.noisy_projections(known[rng.integers(0, len(known), len(values))], rng)
        odds = {}
        for f, (finding, values) in enumerate(own.log_odds.items()):
            drawn = self.home.probabilities[rng.integers(0, len(self.home), len(values)), f]
            odds[finding] = own.noisy_log_odds(finding, drawn, rng)
        return replace(own, rows=rows, log_odds=odds)

    def tested(self, answers: AnswerTable, days: int, rng: np.random.Generator) -> list[StreamEvidence]:
        return run_tests(answers, self.reference(rng), self.model.tolerance, 0.0, days * DAY, AlarmRule())


def drawn(pools: Sequence[AnswerTable], choice: np.ndarray, rng: np.random.Generator) -> AnswerTable:
    """A stream of 100 answers a day, each from the pool that `choice` [N] names, with outcomes that come late."""
    offsets = np.cumsum([0, *map(len, pools)])
    rows = np.array([offsets[c] + rng.integers(len(pools[c])) for c in choice.tolist()])
    everything = _joined(pools)
    N, F = len(rows), len(everything.findings)
    table = everything.select(rows)
    times = (np.arange(N) + rng.random(N)) * DAY / A_DAY
    chance = np.where(table.sets[..., 1].any(axis=1), CONFIRMED[1], CONFIRMED[0])
    confirmed = rng.random(N) < chance
    known_at = np.where(confirmed, times + rng.exponential(DELAY_DAYS * DAY, N), np.nan)
    return replace(
        table,
        keys=np.array([str(number) for number in rng.integers(0, 2**62, N)]),
        times=times,
        labels=np.where(confirmed[:, None], table.labels, np.nan),
        known_at=np.repeat(known_at[:, None], F, axis=1),
    )


def _joined(pools: Sequence[AnswerTable]) -> AnswerTable:
    if len(pools) == 1:
        return pools[0]
    columns: dict[str, Any] = {}
    for field in fields(pools[0]):
        values = [getattr(one, field.name) for one in pools]
        if isinstance(values[0], dict):
            columns[field.name] = {name: np.concatenate([one[name] for one in values]) for name in values[0]}
        else:
            columns[field.name] = values[0] if field.name == "findings" else np.concatenate(values)
    return AnswerTable(**columns)


def quiet_year(bench: Bench, seed: int, days: int) -> dict[str, Any]:
    """A year without drift: which tests alarm, and whether one stream would against a bag that does not grow."""
    rng = np.random.default_rng([1, seed])
    answers = drawn([bench.home], np.zeros(days * A_DAY, int), rng)
    tested = bench.tested(answers, days, rng)
    p = answers.probabilities[:, 0]
    held_out = bench.home.probabilities[rng.integers(0, len(bench.home), bench.model.reference.studies), 0]
    fixed = against_fixed(held_out, p, rng.random(len(p)))
    growth = np.log(betting_functions(fixed))
    _, capital = capital_after_change(growth, (answers.times // DAY).astype(np.int64), YEAR_DAYS)
    return {
        "kind": "quiet year",
        "seed": seed,
        "days": days,
        "tests": len(tested),
        "alarms": [one.name for one in tested if one.crossed is not None],
        "fixed_alarms": bool(capital.max() >= np.log(1 / AlarmRule().yearly_rate)),
    }


def shifted(bench: Bench, shift: str, other: AnswerTable, share: float, seed: int, days: int) -> dict[str, Any]:
    """`QUIET_DAYS` from home, then `days` of which `share` of the answers are from `other`: days to each alarm."""
    rng = np.random.default_rng([2, seed])
    choice = np.concatenate([np.zeros(QUIET_DAYS * A_DAY, int), (rng.random(days * A_DAY) < share).astype(int)])
    tested = bench.tested(drawn([bench.home, other], choice, rng), QUIET_DAYS + days, rng)
    found = {one.name: one.crossed - QUIET_DAYS + 1 for one in tested if one.crossed is not None}
    return {"kind": "shift", "shift": shift, "share": share, "seed": seed, "days": days, "found": found}


# --- the command -----------------------------------------------------------------------------------------------------


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--years", type=int, default=200)
    parser.add_argument("--year-days", type=int, default=YEAR_DAYS)
    parser.add_argument("--repeats", type=int, default=10, help="streams of each shift")
    parser.add_argument("--shift-days", type=int, default=90)
    parser.add_argument("--studies", type=int, default=700, help="that the model learns from")
    parser.add_argument("--answered", type=int, default=250, help="studies of each cohort that is answered")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--shifts", nargs="*", default=[*SHIFTS, *ALTERED])
    parser.add_argument("--shares", type=float, nargs="*", default=[1.0, 0.1])
    parser.add_argument("--work", type=Path, default=Path("var/monitoring"))
    parser.add_argument("--out", type=Path, default=Path("var/monitoring/lines.jsonl"))
    parser.add_argument("--page", type=Path)
    small = {"years": 1, "year_days": 20, "repeats": 1, "shift_days": 10, "studies": 120, "answered": 30, "epochs": 1}
    given = read_options(parser, argv, **small, shifts=["units"], shares=[1.0])
    limit_threads()
    with tempfile.TemporaryDirectory(prefix="consilium-benchmark-") as folder:
        if given.smoke:
            given.work, given.out = Path(folder), Path(folder) / "lines.jsonl"
        given.work.mkdir(parents=True, exist_ok=True)
        stay_in(str(given.work.absolute()))
        measure(given)


def measure(given: argparse.Namespace) -> None:
    model = trained(given.work, given.studies, given.size, given.epochs)
    artifact = load_artifact(model)
    bench = Bench(WatchedModel.of(IDENTITY, artifact), pool(given.work, model, HOME, given.answered, given.size))
    lines = [json.loads(line) for line in given.out.read_text().splitlines()] if given.out.exists() else []
    done = {_key(line) for line in lines}
    for key, make in _plan(given, bench, model):
        if key not in done:
            begun = time.process_time()
            line = make() | {"cpu_seconds": round(time.process_time() - begun, 1)}
            lines.append(line)
            with given.out.open("a") as file:
                file.write(json.dumps(line) + "\n")
            print(json.dumps(line), flush=True)
    report = summary(bench.model.reference, lines, given)
    print(report)
    if given.page is not None:
        given.page.write_text(report, encoding="utf-8")


def _key(line: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(line.get(name) for name in ("kind", "shift", "share", "seed", "days"))


def _plan(given: argparse.Namespace, bench: Bench, model: Path) -> Iterator[tuple[tuple[Any, ...], Callable[[], Any]]]:
    """What is to be done, with the key of the line that it makes."""
    first = given.years // 4
    yield from _quiet(given, bench, range(first))
    for shift in given.shifts:
        other = pool(given.work, model, shift, given.answered, given.size)
        for share in given.shares:
            for seed in range(given.repeats):
                key = ("shift", shift, share, seed, given.shift_days)
                yield key, partial(shifted, bench, shift, other, share, seed, given.shift_days)
    yield from _quiet(given, bench, range(first, given.years))


def _quiet(
    given: argparse.Namespace, bench: Bench, seeds: range
) -> Iterator[tuple[tuple[Any, ...], Callable[[], dict[str, Any]]]]:
    for seed in seeds:
        yield ("quiet year", None, None, seed, given.year_days), partial(quiet_year, bench, seed, given.year_days)


if __name__ == "__main__":
    main()
