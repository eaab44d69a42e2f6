"""What a small public cohort can support: ``python benchmarks/severity.py COHORT --out docs/severity.md``.

Trains the recipe covid-chestxray (task severity) with several fusions, judges each out of fold on the same
patient-grouped folds beside the simple baselines, once more with whole sources left out, and once on the studies that
were taken before the outcome. Every training is resumed where an earlier call was interrupted. Every figure of the page
is of this one run; nothing in it was chosen by it.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt
from _options import read_options
from _public import write_public
from _trained import stay_in

from consilium.calibration import patient_bootstrap
from training.cohorts import load_cohort
from training.cohorts.cohort import Cohort
from training.evaluation.comparisons import paired_differences
from training.evaluation.metrics import Sample, interval
from training.evaluation.results import Evaluation
from training.evaluation.rows import ALL_PRESENT, AS_PRESENT, Row, RowKind
from training.pipeline.train import train
from training.recipes import find_recipe

FUSIONS = ("concat", "late", "gated")
FIRST = FUSIONS[0]
"""What is also judged by source and on the strict part; the recipe's own."""
MARGIN = 0.05
"""AUROC that the fused model may be worse by than the best baseline and still count as not inferior."""
REPLICATES = 1000
SEED = 0
_LEAST = 10
"""Of each class: fewer studies of a source get no figure."""

_SMALL = (
    *("training.epochs=1", "training.batch_size=8"),
    *("modalities.image.size=64", "modalities.image.width=8", "modalities.text.width=32"),
    *("evaluation.folds=2", "evaluation.bootstrap=20", "evaluation.audit=false", "evaluation.baselines=true"),
)
"""Settings of a training that only has to run."""

Rows = dict[Row, npt.NDArray]


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """Rows of out-of-fold probabilities [N, 1] that belong to the same studies."""

    evaluation: Evaluation
    rows: Rows
    sample: Sample

    @classmethod
    def of(cls, first: Evaluation, others: dict[str, Evaluation]) -> Judged:
        """All rows of `first`, and the fused answer of each of the `others` under ``fused/as_present (NAME)``."""
        rows = {name: values for name, values in first.probabilities.items() if name.kind is not RowKind.ORACLE}
        for name, other in others.items():
            if other.study_ids.tolist() != first.study_ids.tolist():
                raise RuntimeError(f"{name} was judged on other folds")
            rows[Row(RowKind.FUSED, f"{ALL_PRESENT} ({name})")] = other.probabilities[AS_PRESENT]
        weights = patient_bootstrap(first.patient_ids, REPLICATES, SEED)
        return cls(first, rows, Sample(first.labels, weights))

    def auroc(self, row: Row, where: npt.NDArray[np.bool_] | None = None) -> str:
        """``.76 [.67, .85]``, of the studies `where`."""
        values = self.rows[row] if where is None else np.where(where[:, None], self.rows[row], np.nan)
        [measured] = self.sample.measure(values, None)
        estimate = interval("auroc", measured.figures["auroc"])
        return _figure(estimate.value, estimate.low, estimate.high)

    def count(self, row: Row, where: npt.NDArray[np.bool_] | None = None) -> tuple[int, int]:
        """Studies and positives that the row judges."""
        known = ~np.isnan(self.rows[row][:, 0]) & ~np.isnan(self.evaluation.labels[:, 0])
        if where is not None:
            known &= where
        return int(known.sum()), int((known & (self.evaluation.labels[:, 0] == 1)).sum())

    def best_baseline(self) -> Row:
        """The one with the highest AUROC of those that judge every study."""
        whole = max(self.count(row)[0] for row in self.rows)
        candidates = [row for row in self.rows if row.kind is RowKind.BASELINE and self.count(row)[0] == whole]
        return max(candidates, key=lambda row: float(self.sample.measure(self.rows[row], None)[0].figures["auroc"][0]))

    def difference(self, row: Row, against: Row) -> tuple[float, float, float]:
        """Of AUROC, on the studies that both judge, with its 95 % interval."""
        table = paired_differences(self.evaluation.findings, self.sample, self.rows, [(row, against)])
        line = table.iloc[0]
        return tuple(float(line[f"auroc_difference{end}"]) for end in ("", "_low", "_high"))


def _figure(value: float, low: float, high: float, signed: bool = False) -> str:
    if np.isnan([value, low, high]).any():
        return "too few"
    shape = (lambda x: f"{x:+.2f}") if signed else (lambda x: f"{x:.2f}")
    shown = [shape(x).replace("0.", ".", 1) for x in (value, low, high)]
    return f"{shown[0]} [{shown[1]}, {shown[2]}]"


def _trained(root: Path, name: str, settings: Sequence[str]) -> Evaluation:
    recipe = find_recipe("covid-chestxray", [f"name=severity-{name}", *settings])
    logging.info("== %s", name)
    return train(recipe, root, resume=True).evaluation


def _verdict(low: float, high: float) -> str:
    if low > 0:
        return "better"
    if high < -MARGIN:
        return "worse by more than the margin"
    return "not inferior" if low > -MARGIN else "undecided"


def _name(row: Row) -> str:
    parts = row.name.replace("_", " ").replace("+", " + ")
    if row.kind is RowKind.FUSED:
        _, of_all, variant = row.name.partition(ALL_PRESENT)
        return f"fused, what each study has{variant}" if of_all else f"fused ({FIRST}), {parts}"
    return {RowKind.ALONE: f"own head: {parts}", RowKind.BASELINE: f"baseline: {parts}"}[row.kind]


def _rows_table(judged: Judged) -> Iterator[str]:
    best = judged.best_baseline()
    yield f"| row | studies (with) | AUROC | minus {_name(best)} | non-inferior by {MARGIN:g} |"
    yield "| --- | --- | --- | --- | --- |"
    for row in judged.rows:
        studies, positives = judged.count(row)
        against, verdict = "", ""
        if row != best:
            value, low, high = judged.difference(row, best)
            against, verdict = _figure(value, low, high, signed=True), _verdict(low, high)
        yield f"| {_name(row)} | {studies} ({positives}) | {judged.auroc(row)} | {against} | {verdict} |"


def _sources_table(cohort: Cohort, ordinary: Judged, left_out: Judged) -> Iterator[str]:
    sources = {record.study_id: record.source or "" for record in cohort.records}
    yield "| source | studies (with) | row | trained with the source | without it |"
    yield "| --- | --- | --- | --- | --- |"
    own = np.array([sources[study] for study in left_out.evaluation.study_ids.tolist()])
    all_of = np.array([sources[study] for study in ordinary.evaluation.study_ids.tolist()])
    for source in sorted(set(own.tolist())):
        for row in left_out.rows:
            studies, positives = left_out.count(row, own == source)
            if min(positives, studies - positives) < _LEAST:
                continue
            known = f"| {source} | {studies} ({positives}) | {_name(row)} "
            yield f"{known}| {ordinary.auroc(row, all_of == source)} | {left_out.auroc(row, own == source)} |"


def _reading(judged: Judged) -> Iterator[str]:
    """What the widths of the intervals allow to be said."""
    best = judged.best_baseline()
    rows = [row for row in judged.rows if row != best]
    differences = [judged.difference(row, best) for row in rows]
    seen = [row for row, (_, low, high) in zip(rows, differences, strict=True) if low > 0 or high < 0]
    width = f"{np.median([(high - low) / 2 for _, low, high in differences]):.2f}".lstrip("0")
    decided = sum(_verdict(low, high) != "undecided" for _, low, high in differences)
    yield (
        f"Half the width of a difference's interval is {width} (median); what differs by less cannot be told apart."
        f" Of {len(rows)} rows {len(seen)} differ from the best baseline beyond doubt; non-inferiority by {MARGIN:g} "
        f"is decided of {decided}. The cohort can tell that a method fails, but not choose among those that do not."
    )


def _page(cohort: Cohort, strict: Cohort, ordinary: Judged, left_out: Judged, careful: Judged) -> Iterator[str]:
    known = ~np.isnan(cohort.labels[:, 0])
    patients = len(set(cohort.patient_ids[known].tolist()))
    yield from (_HEAD.format(studies=int(known.sum()), patients=patients), "")
    yield from ("## Patient-grouped five-fold, out of fold", "")
    yield from _rows_table(ordinary)
    yield from ("", *_reading(ordinary))
    yield from ("", "## With whole sources left out", "", _SOURCES, "")
    yield from _sources_table(cohort, ordinary, left_out)
    strictly = int((~np.isnan(strict.labels[:, 0])).sum())
    yield from ("", f"## Only what was taken before the outcome ({strictly} studies)", "", _STRICT, "")
    yield from _rows_table(careful)


_HEAD = """\
# Severity on the public covid-chestxray cohort

Intensive care or intubation, ever, from radiographs, masked notes and values: {studies} studies of {patients} patients
with a known outcome. Made, page and all, by `python benchmarks/severity.py COHORT --out docs/severity.md`.
AUROC with 95 % intervals by bootstrap over patients; differences are paired, on the studies that both rows score. The
best baseline is the one with the highest figure here among those that score every study, which favours it."""
_SOURCES = """\
Each source judged by a model that has seen nothing of it, nor of its patients, beside the same studies in the table
above. Sources with too few patients of a class are not judged."""
_STRICT = """\
Images taken in intensive care or under a tube show the outcome itself; here they are left out of training and judging
(`cohort.strict`)."""


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cohort", nargs="?", type=Path)
    parser.add_argument("--out", type=Path, default=Path("docs/severity.md"))
    parser.add_argument("--set", dest="settings", action="append", default=[], help="key of the recipe; repeatable")
    options = read_options(parser, argv, settings=_SMALL)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if options.smoke:
        with TemporaryDirectory(prefix="consilium-benchmark-") as folder:
            stay_in(folder)
            write_public(Path(folder) / "cohort")
            print(judge(Path(folder) / "cohort", FUSIONS[:1], options.settings))
        return
    if options.cohort is None:
        parser.error("COHORT must be given, or --smoke")
    page = judge(options.cohort, FUSIONS, options.settings)
    options.out.write_text(page, encoding="utf-8")
    print(page)


def judge(root: Path, fusions: Sequence[str], settings: Sequence[str]) -> str:
    """Train all that is judged, and give the page."""
    run: Callable[..., Evaluation] = lambda name, *own: _trained(root, name, [*own, *settings])  # noqa: E731
    found = {name: run(name, f"fusion.name={name}", f"evaluation.audit={name == FIRST}") for name in fusions}
    sources = run(
        "sources", f"fusion.name={FIRST}", "evaluation.protocol=leave_one_source_out", "evaluation.audit=false"
    )
    careful = run("strict", f"fusion.name={FIRST}", "cohort.strict=true", "evaluation.audit=false")
    cohort, strict = (load_cohort("covid-chestxray", root, {"task": "severity", "strict": s}) for s in (False, True))
    ordinary = Judged.of(found[FIRST], {name: found[name] for name in fusions[1:]})
    lines = _page(cohort, strict, ordinary, Judged.of(sources, {}), Judged.of(careful, {}))
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
