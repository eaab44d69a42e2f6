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
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import torch
from _options import read_options
from _trained import stay_in
from scipy.stats import binomtest

from consilium.artifacts.artifact import load_artifact
from consilium.domain.diagnosis import ABSENT, PRESENT, Diagnosis, ModelIdentity
from consilium.inference.diagnostician import Diagnostician
from consilium.monitoring.categories import study_categories
from consilium.monitoring.monitored_answer import ConfirmedOutcome, MonitoredAnswer
from consilium.monitoring.reference import MonitoringReference
from consilium.preprocessing.batch import Prepared
from consilium.system.durable import replace_file
from consilium.system.threads import limit_threads
from training.cohorts import cohort_kind, load_cohort
from training.cohorts.phantom.named_shifts import STANDARD, parse_shift
from training.cohorts.phantom.write import write_phantom
from training.data.cache_folders import file_cache_folder
from training.data.cached_cohort import cache_cohort
from training.data.datamodule import StudyDataset
from training.evaluation.out_of_distribution import Case, all_kinds
from training.evaluation.out_of_distribution.detection import alter
from training.monitoring.alarms import DAY, YEAR_DAYS, AlarmRule, StreamEvidence, run_tests
from training.monitoring.answers import AnswerTable, Layout
from training.monitoring.betting import betting_functions, capital_after_change
from training.monitoring.exchangeability import against_fixed
from training.monitoring.monitor import WatchedModel
from training.pipeline.train import train
from training.recipes import find_recipe

A_DAY = 100
QUIET_DAYS = 60
CONFIRMED = (0.15, 0.45)
"""Share of answers that are confirmed, of those that call nothing and of the others."""
DELAY_DAYS = 10.0
HOME = "none"
SEED = 1009
"""Of every cohort that is answered: the same patients and evidence, so that nothing but the shift differs."""
IDENTITY = ModelIdentity(name="phantom", version="1", manifest_digest="0")
_EPOCH = datetime.fromtimestamp(0, UTC)
SHIFTS: Mapping[str, Sequence[str]] = {
    **STANDARD,
    "missing value": ("missing-value:absent=0.5", "missing-value:present=0.5"),
}
ALTERED = {"exposure": "shifted exposure", "units": "mixed units"}
"""Every study of a fresh cohort from home, altered in one of the ways of `all_kinds`."""


# --- model and answers -----------------------------------------------------------------------------------------------


def trained(work: Path, studies: int, size: int, epochs: int) -> Path:
    """The model's folder; trained once."""
    note = work / "model.json"
    if not note.exists():
        if not (work / "home").exists():
            write_phantom(work / "home", studies, 7, size, workers=1)
        settings = [f"training.epochs={epochs}", "evaluation.bootstrap=20", f"modalities.image.size={size}"]
        model = train(find_recipe("phantom-tiny", settings), work / "home")
        replace_file(note, json.dumps(str(model.folder)).encode())
    return Path(json.loads(note.read_text()))


def pool(work: Path, model: Path, name: str, studies: int, size: int) -> AnswerTable:
    """The model's answers about one cohort, with every outcome; made once."""
    file = work / f"{name.replace(' ', '-')}.npz"
    if not file.exists():
        print(f"answers: {name}", flush=True)
        root, shift = work / "cohorts" / name, parse_shift(SHIFTS.get(name, ()))
        if not root.exists():
            write_phantom(root, studies, SEED, size, splits=None, shift=shift, workers=1)
        table = answers_of(model, root, ALTERED.get(name), "new scanner" if name == "device" else "")
        shutil.rmtree(root)
        _save(table, file)
    return _load(file)


def answers_of(model: Path, root: Path, altered: str | None, device: str) -> AnswerTable:
    """Everything that the service would keep of the studies in `root`, with every outcome."""
    artifact = load_artifact(model)
    assert artifact.monitoring is not None
    diagnostician = Diagnostician(artifact, IDENTITY)
    cached = cache_cohort(load_cohort("phantom", root, {}), artifact.recipe, file_cache_folder())
    cohort = cached.cohort
    dataset = StudyDataset(cached, artifact.preprocessing, np.arange(len(cohort)))
    renderer, rng = cohort_kind("phantom").load_renderer(root), np.random.default_rng(5)
    [kind] = [one for one in all_kinds() if one.name == altered] or [None]
    items: list[Prepared] = []
    for position, row in enumerate(dataset.rows):
        item = dataset[position][0]
        if kind is not None and kind.modality in item.present:
            case = Case(cohort.records[row], cached.studies[row], renderer, cohort.variables)
            item = alter(artifact.preprocessing, kind, case, item, rng) or item
        items.append(item)
    kept = []
    for start in range(0, len(items), 32):
        batch = items[start : start + 32]
        with torch.inference_mode():
            features = diagnostician.model(artifact.preprocessing.collate(batch)).features
        projected = artifact.monitoring.project({part: values.numpy() for part, values in features.items()})
        for place, answer in enumerate(diagnostician.diagnose_prepared(batch)):
            row = dataset.rows[start + place]
            site = cohort.records[row].source or ""
            categories = study_categories(batch[place].study)
            categories |= {"site": site, "device": device or f"scanner of {site}"}
            directions = {part: tuple(values[place].tolist()) for part, values in projected.items()}
            labels = dict(zip(cohort.findings.names, cohort.labels[row] == 1, strict=True))
            kept.append(_kept(int(row), answer, directions, categories, labels))
    return AnswerTable.of(kept, Layout.of(artifact.monitoring))


def _kept(
    row: int,
    answer: Diagnosis,
    directions: Mapping[str, tuple[float, ...]],
    categories: Mapping[str, str],
    labels: Mapping[str, bool],
) -> MonitoredAnswer:
    present = frozenset(answer.modalities)
    return MonitoredAnswer(
        result_id=UUID(int=row),
        time=_EPOCH,
        role="serving",
        model_name=answer.model.name,
        model_version=answer.model.version,
        manifest_digest=answer.model.manifest_digest,
        probabilities={one.finding: one.probability for one in answer.findings},
        prediction_sets={one.finding: one.prediction_set for one in answer.findings},
        referred=bool(answer.refer_reasons) or any(one.refer_reasons for one in answer.findings),
        present=present,
        p_values={one.part: one.p_value for one in answer.out_of_distribution},
        projections={part: one for part, one in directions.items() if not np.isnan(one).any()},
        categories=categories,
        latency_ms=1.0,
        outcomes=tuple(
            ConfirmedOutcome(name, PRESENT if there else ABSENT, _EPOCH, "import", influenced=False)
            for name, there in labels.items()
        ),
    )


def _save(table: AnswerTable, file: Path) -> None:
    columns: dict[str, Any] = {}
    for field in fields(table):
        value = getattr(table, field.name)
        parts = value.items() if isinstance(value, dict) else ()
        columns |= {f"{field.name}/{name}": part for name, part in parts} or {field.name: value}
    partial = file.with_suffix(".partial.npz")
    np.savez(partial, allow_pickle=False, **columns)
    partial.rename(file)


def _load(file: Path) -> AnswerTable:
    with np.load(file, allow_pickle=False) as stored:
        columns = {name: stored[name] for name in stored.files}
    read: dict[str, Any] = {}
    for name, value in columns.items():
        field, slash, key = name.partition("/")
        if slash:
            read.setdefault(field, {})[key] = value
        else:
            read[field] = tuple(value.tolist()) if name == "findings" else value
    return AnswerTable(**read)


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
    report = summary(bench, lines, given)
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


def summary(bench: Bench, lines: Sequence[Mapping[str, Any]], given: argparse.Namespace) -> str:
    """The page: what was measured, with its command."""
    years = [line for line in lines if line["kind"] == "quiet year" and line["days"] == given.year_days]
    shifts = [line for line in lines if line["kind"] == "shift" and line["days"] == given.shift_days]
    alarmed = [line for line in years if line["alarms"]]
    low, high = _interval(len(alarmed), len(years))
    reference = bench.model.reference
    which = Counter(name for line in alarmed for name in line["alarms"])
    facts = {
        "years": len(years),
        "days": given.year_days,
        "a_day": A_DAY,
        "tests": years[0]["tests"] if years else 0,
        "alarmed": len(alarmed),
        "share": len(alarmed) / max(len(years), 1),
        "low": low,
        "high": high,
        "which": ", ".join(f"{name} ({count})" for name, count in which.most_common()) or "none",
        "fixed": np.mean([line["fixed_alarms"] for line in years]) if years else np.nan,
        "studies": given.studies,
        "answered": given.answered,
        "held_out": reference.studies,
        "noise": reference.noise,
        "weight": reference.weight,
        "quiet": QUIET_DAYS,
        "shift_days": given.shift_days,
    }
    return _PAGE.read_text(encoding="utf-8").format(**facts, table="\n".join(_rows(shifts)))


def _rows(shifts: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    columns = ("any test", *_FAMILIES)
    yield f"| shift | share | found | before it | {' | '.join(columns)} |"
    yield "| --- " * (4 + len(columns)) + "|"
    for shift, share in dict.fromkeys((line["shift"], line["share"]) for line in shifts):
        found = [line["found"] for line in shifts if (line["shift"], line["share"]) == (shift, share)]
        after = [{name: day for name, day in one.items() if day > 0} for one in found]
        cells = [_days([min(one.values(), default=np.inf) for one in after])]
        for kinds in _FAMILIES.values():
            own = [[day for name, day in one.items() if name.startswith(kinds)] for one in after]
            cells.append(_days([min(days, default=np.inf) for days in own]))
        early = sum(any(day <= 0 for day in one.values()) for one in found)
        name = _SHIFT_NAMES.get(shift, shift)
        yield f"| {name} | {share:g} | {sum(map(bool, after))} of {len(found)} | {early} | {' | '.join(cells)} |"


def _days(days: Sequence[float]) -> str:
    middle = float(np.median(days)) if days else np.inf
    return f"{middle:.1f}" if np.isfinite(middle) else "–"


def _interval(found: int, of: int) -> tuple[float, float]:
    """Clopper and Pearson's, 95 %."""
    if not of:
        return 0.0, 1.0
    bounds = binomtest(found, of).proportion_ci()
    return float(bounds.low), float(bounds.high)


_SHIFT_NAMES = {
    HOME: "none",
    "prevalence": "prevalence: odds of three findings x 3",
    "device": "device: every image from a new scanner",
    "missingness": "missing modality: each at a rate of .4",
    "phrases": "note style: phrases that no training note had",
    "missing value": "missing values: each at a rate of .5",
    "exposure": "exposure: another display curve and more noise",
    "units": "units: values taken for the other usual unit",
}
_FAMILIES = {
    "features": ("features",),
    "typicality": ("typicality",),
    "probability, referral": ("probability", "referral"),
    "presence, categories": ("presence", "category"),
    "held-out studies": ("held-out",),
    "outcomes": ("calibration",),
}
_PAGE = Path(__file__).parent / "_monitoring.md"


if __name__ == "__main__":
    main()
