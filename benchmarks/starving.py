"""What helps against a strong modality that starves a weak one: ``python benchmarks/starving.py COHORT --out FOLDER``.

The same recipe is trained with more and more of what is expected to help, and evaluated on the cohort's test split:

- ``plain``: the fused loss alone;
- ``modality_dropout``: also the fused loss on what modality dropout left;
- ``own_heads``: also a head for each modality alone; the weights are the recipe's;
- ``distillation``: these heads learn from teachers of one modality each (Du et al. 2023);
- ``mmpareto``: without teachers, conflicting gradients are integrated (Wei & Hu 2024);
- ``ensemble``: mean probability of three ``own_heads`` of different seeds (Lakshminarayanan et al. 2017).

Intervals are 95 %, by patient of the test split; with one seed they say nothing of how another training would end, so
take several (``--seeds``). Each training ends in a folder of its own under the given one: interrupted, the same command
goes on. The tables are printed and stand there as ``shares.csv`` and ``differences.csv``.
"""

from __future__ import annotations

import argparse
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from _options import read_options
from _trained import NOWHERE, phantom
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from consilium.calibration import Calibration, patient_bootstrap
from consilium.configuration.recipe import Recipe
from consilium.modalities.registry import modality_names
from consilium.system.threads import limit_threads
from training.cohorts import cohort_kind, load_cohort
from training.cohorts.cohort_kind import Oracle
from training.cohorts.splits import split_cohort
from training.data.cached_cohort import CachedCohort, cache_cohort
from training.evaluation.comparisons import MACRO
from training.evaluation.evaluate import calibrate
from training.evaluation.metrics import Sample
from training.evaluation.predict import predict
from training.evaluation.predictions import Predictions
from training.evaluation.rows import ALL_PRESENT
from training.experiments.fusion_comparison.rules import mean_answer, with_answers
from training.experiments.fusion_comparison.scoring import (
    Answers,
    Contender,
    TestStudies,
    difference_table,
    measure,
    share_table,
)
from training.experiments.fusion_comparison.trained import Trained, kept
from training.fitting.fit import fit
from training.fitting.teachers import train_teachers
from training.recipes import find_recipe

VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {"subset": 0.0, "modality": 0.0},
    "modality_dropout": {"modality": 0.0},
    "own_heads": {},
    "distillation": {"distillation": 1.0},
    "mmpareto": {"gradient": "mmpareto"},
}
REFERENCE, ENSEMBLED, MEMBERS = "plain", "own_heads", 3


@dataclass(frozen=True, slots=True, eq=False)
class Study:
    """What all trainings of the study share."""

    recipe: Recipe
    cached: CachedCohort
    parts: dict[str, npt.NDArray[np.int64]]
    folder: Path

    def variant(self, name: str, seed: int) -> Recipe:
        objectives = self.recipe.objectives.model_copy(update=VARIANTS[name])
        return self.recipe.model_copy(update={"objectives": objectives, "seed": self.recipe.seed + seed})

    def trained(self, name: str, seed: int) -> Trained:
        """The training of a variant, as it was kept or made now."""
        recipe, folder = self.variant(name, seed), self.folder / f"seed_{seed}" / name
        return kept(folder, f"{recipe.to_yaml()}\n{self.cached.cohort.digest}", lambda: self._train(recipe, folder))

    def _train(self, recipe: Recipe, folder: Path) -> Trained:
        train, validation = self.parts["train"], self.parts["validation"]
        begun = time.process_time()
        teachers = None
        if recipe.objectives.distillation > 0:
            sinks = dict.fromkeys(modality_names(), NOWHERE).__getitem__
            teachers = train_teachers(self.cached, recipe, train, validation, folder / "teachers", sinks)
        found = fit(self.cached, recipe, train, validation, folder / "fit", NOWHERE, teachers=teachers)
        seconds = time.process_time() - begun
        predictions = [
            predict(found.model, found.preprocessing, self.cached, self.parts[split], recipe)
            for split in ("calibration", "test")
        ]
        size = sum(parameter.numel() for parameter in found.model.parameters())
        assert found.validation_loss is not None
        return Trained(found.epochs, found.validation_loss, seconds, size, *predictions)


def contenders(study: Study, seeds: int) -> list[Contender]:
    """Every variant at every seed, and the ensemble."""
    made = {name: [study.trained(name, seed) for seed in range(seeds)] for name in VARIANTS}
    members = made[ENSEMBLED][:MEMBERS]
    members += [study.trained(ENSEMBLED, seed) for seed in range(len(members), MEMBERS)]
    found = [
        Contender(
            name,
            tuple(answers(one.test, calibration(study, one.calibration)) for one in ones),
            float(np.mean([one.seconds for one in ones])),
            ones[0].parameters,
        )
        for name, ones in made.items()
    ]
    mean = {split: mean_of(study, members, split) for split in ("calibration", "test")}
    joint = answers(mean["test"], calibration(study, mean["calibration"]))
    cost = (float(sum(one.seconds for one in members)), sum(one.parameters for one in members))
    return [*found, Contender("ensemble", (joint,), *cost)]


def calibration(study: Study, predictions: Predictions) -> Calibration:
    recipe = study.recipe
    return calibrate(predictions, study.cached.cohort.findings, recipe.calibration, bootstrap=1, seed=recipe.seed)


def answers(predictions: Predictions, calibrated: Calibration) -> Answers:
    rows = predictions.probabilities(calibrated)
    return {ALL_PRESENT: predictions.as_present(rows)} | rows


def mean_of(study: Study, members: Sequence[Trained], split: str) -> Predictions:
    predictions = [getattr(one, split) for one in members]
    fitted = [calibration(study, one.calibration) for one in members]
    mean = mean_answer([one.probabilities(c) for one, c in zip(predictions, fitted, strict=True)])
    return with_answers(predictions[0], mean, exclusive=study.cached.cohort.findings.exclusive)


def bench(study: Study, test: Predictions, oracle: Oracle | None) -> TestStudies:
    best = None
    if oracle is not None:
        place = {name: row for row, name in enumerate(np.asarray(oracle.study_ids).tolist())}
        order = [place[name] for name in test.study_ids.tolist()]
        rows = {
            key: np.where(np.isnan(logits), np.nan, oracle.posteriors[key][order]) for key, logits in test.fused.items()
        }
        best = {ALL_PRESENT: test.as_present(rows)} | rows
    weights = patient_bootstrap(test.patient_ids, study.recipe.evaluation.bootstrap, study.recipe.seed)
    return TestStudies(study.cached.cohort.findings, Sample(test.labels, weights), best, None)


def show(tables: dict[str, pd.DataFrame]) -> list[Table]:
    """Shares by what was read, and what each variant gained on ``plain``, mean over findings."""
    shares = tables["shares"][tables["shares"]["finding"] == MACRO]
    figures = [name for name in ("auroc_share", "information_share") if name in shares] or ["auroc", "nll"]
    shown = [cross(shares, figure, f"{figure.replace('_', ' ')}, by what was read") for figure in figures]
    gained = tables["differences"][tables["differences"]["finding"] == MACRO]
    for figure, better in (("auroc", "above 0 is better"), ("nll", "below 0 is better")):
        shown.append(cross(gained, f"{figure}_difference", f"{figure} minus that of {REFERENCE}: {better}", sign="+"))
    return shown


def cross(lines: pd.DataFrame, figure: str, title: str, sign: str = "") -> Table:
    table = Table("variant", title=title, title_justify="left", box=SIMPLE_HEAD)
    subsets = list(dict.fromkeys(lines["subset"]))
    for subset in subsets:
        table.add_column(subset.replace("+", "\n"), justify="right")
    for name, rows in lines.groupby("contender", sort=False):
        cells = {line["subset"]: line for line in rows.to_dict(orient="records")}
        ends = (figure, f"{figure}_low", f"{figure}_high")
        texts = [[f"{cells[subset][end]:{sign}.3f}" for end in ends] for subset in subsets]
        table.add_row(str(name), *(f"{value}\n\\[{low}, {high}]" for value, low, high in texts))
    return table


def main(argv: Sequence[str] | None = None) -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("cohort", nargs="?", type=Path)
    arguments.add_argument("--out", type=Path)
    arguments.add_argument("--recipe", default="phantom-demo")
    arguments.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    arguments.add_argument("--seeds", type=int, default=1)
    small = ["training.epochs=1", "evaluation.bootstrap=20"]
    given = read_options(arguments, argv, recipe="phantom-tiny", set=small)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    recipe = find_recipe(given.recipe, given.set)
    with phantom(given.cohort, smoke=given.smoke) as root, TemporaryDirectory() as room:
        study_variants(recipe, root, given.out or Path(room), given.seeds)


def study_variants(recipe: Recipe, root: Path, out: Path, seeds: int) -> None:
    limit_threads(recipe.training.threads)
    chosen = recipe.cohort
    masks = recipe.masks_identifiers
    cohort = load_cohort(chosen.kind, root, chosen.options, mask_notes=masks)
    cached = cache_cohort(cohort, recipe, out / "cache")
    study = Study(recipe, cached, split_cohort(cohort, recipe.splits.model_dump(), recipe.seed), out)
    found = contenders(study, seeds)
    oracle = cohort_kind(chosen.kind).load_oracle(root)
    reference = bench(study, study.trained(REFERENCE, 0).test, oracle)
    measurements = measure(reference, found)
    tables = {
        "shares": share_table(reference, found, measurements),
        "differences": difference_table(measurements, [REFERENCE]),
    }
    for name, table in tables.items():
        table.to_csv(out / f"{name}.csv", index=False)
    Console().print(*show(tables), sep="\n")


if __name__ == "__main__":
    main()
