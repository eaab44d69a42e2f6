"""What pretrained encoders are worth to a model that is trained further, by how many studies are labelled and how.

``python benchmarks/label_efficiency.py COHORT --out WORK --page PAGE`` pretrains the recipe (``--recipe``, ``--set``)
on the training split of a phantom, or takes ``--encoders``. For each number of labelled studies, each way of training
and each seed one model is fitted: of images alone, and of images, notes and values. The labelled studies are drawn by
chance; the epoch that is kept is the best on at most a quarter as many further ones, of other patients. All are tested
on the phantom's test split, beside its best possible answers. A share is (AUROC - .5) / (possible - .5), the mean over
the findings. The command goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import hashlib
import logging
import math
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
from _options import read_options
from _trained import NOWHERE, phantom, stay_in
from sklearn.metrics import roc_auc_score

from consilium.artifacts.pretrained_encoders import load_encoders, resolve_encoders
from consilium.configuration.recipe import Recipe
from consilium.modalities.encoder_section import AdaptationSection
from consilium.system.threads import limit_threads
from training.cohorts import cohort_kind
from training.cohorts.cohort_kind import Oracle
from training.cohorts.splits import Indices, split_cohort
from training.data.cache_folders import file_cache_folder
from training.data.cached_cohort import CachedCohort, cache_cohort
from training.evaluation.predict import predict
from training.evaluation.predictions import Predictions
from training.experiments.fusion_comparison.trained import Trained, kept
from training.fitting.closed_form.fit_stacked import fit_stacked
from training.fitting.fit import fit
from training.pipeline.named_weights import resolve_weights
from training.pretraining.encoder_card import markdown_table
from training.pretraining.measured import read_cohort
from training.pretraining.pretrain import pretrain
from training.recipes import find_recipe

NOTHING, LINEAR = "from nothing, all", "pretrained, linear"
WAYS: Mapping[str, Mapping[str, Any] | None] = {
    NOTHING: None,
    LINEAR: {"name": "frozen"},
    "pretrained, frozen": {"name": "frozen"},
    "pretrained, last block": {"name": "last"},
    "pretrained, LoRA": {"name": "lora", "rank": 4, "alpha": 8},
    "pretrained, all": {"name": "all"},
    "pretrained, all, staged": {"name": "all", "head_epochs": 2, "block_epochs": 1, "layer_decay": 0.7},
}
"""The adaptation of the encoders of images and of notes; None: from random weights. `LINEAR` has the fusion stacked, a
linear model of their features that is fitted in closed form; the others are trained by gradient descent."""
SCOPES: Mapping[str, tuple[str, ...]] = {"image": ("image",), "all": ("image", "text", "observations")}
BASE = "phantom-demo"
_FEWEST_EPOCHS = 4


@dataclass(frozen=True, slots=True)
class Cell:
    """One model."""

    scope: str
    way: str
    labelled: int
    seed: int

    @property
    def folder(self) -> str:
        way = "".join(letter if letter.isalnum() else "-" for letter in self.way)
        return f"{self.scope}_{self.labelled}_{way}_{self.seed}"


@dataclass(frozen=True, slots=True, eq=False)
class Experiment:
    """What all models share.

    Attributes
    ----------
    encoders : str
        What the recipes name as weights.
    sections : mapping of modality to section
        Of the pretraining.
    steps : int
        Batches that each training has, about.
    """

    root: Path
    work: Path
    encoders: str
    sections: Mapping[str, Any]
    width: int
    steps: int

    def recipe(self, cell: Cell) -> Recipe:
        base = find_recipe(BASE, [f"seed={cell.seed}", f"fusion.width={self.width}"])
        adaptation = WAYS[cell.way]
        sections = {}
        for name in SCOPES[cell.scope]:
            section = self.sections.get(name, base.modalities[name])
            if name in self.sections and adaptation is not None:
                chosen = AdaptationSection.model_validate(adaptation)
                section = section.model_copy(update={"weights": self.encoders, "adaptation": chosen})
            sections[name] = section
        fusion = base.fusion.model_copy(update={"name": "stacked"} if cell.way == LINEAR else {})
        size = min(base.training.batch_size, max(4, cell.labelled // 8))
        epochs = max(_FEWEST_EPOCHS, math.ceil(self.steps * size / cell.labelled))
        training = base.training.model_copy(update={"epochs": epochs, "batch_size": size, "patience": epochs})
        return base.model_copy(update={"modalities": sections, "fusion": fusion, "training": training})

    def measured(self, cell: Cell) -> Trained:
        recipe, folder = self.recipe(cell), self.work / "models" / cell.folder
        cached = self._cached(recipe)
        digest = hashlib.sha256(cached.cohort.digest.encode()).hexdigest()
        return kept(folder, f"{recipe.to_yaml()}\n{digest}", lambda: self._train(cell, cached, recipe, folder))

    def _cached(self, recipe: Recipe) -> CachedCohort:
        starts = resolve_weights(recipe)
        return cache_cohort(read_cohort(recipe, self.root), recipe, file_cache_folder(), starts=starts)

    def _train(self, cell: Cell, cached: CachedCohort, recipe: Recipe, folder: Path) -> Trained:
        parts = split_cohort(cached.cohort, recipe.splits.model_dump(), recipe.seed)
        train, validation = drawn(cached, parts["train"], cell)
        begun = time.process_time()
        if cell.way == LINEAR:
            found = fit_stacked(cached, recipe, train)  # chooses by folds of these studies, and needs no others
        else:
            found = fit(cached, recipe, train, validation, folder / "fit", NOWHERE)
        seconds = time.process_time() - begun
        answers = predict(found.model, found.preprocessing, cached, parts["test"], recipe)
        trained = sum(one["trained"] for name, one in found.parameters.items() if name in self.sections)
        return Trained(found.epochs, found.validation_loss, seconds, trained, answers, answers)


def drawn(cached: CachedCohort, rows: Indices, cell: Cell) -> tuple[Indices, Indices]:
    """So many labelled studies out of `rows` that have an image, and a quarter as many of other patients."""
    records, patients = cached.cohort.records, cached.cohort.patient_ids
    able = np.array([row for row in rows.tolist() if records[row].files.get("image")])
    order = np.random.default_rng((cell.seed, 7)).permutation(able)
    train, rest = order[: cell.labelled], order[cell.labelled :]
    rest = rest[~np.isin(patients[rest], patients[train])][: cell.labelled // 4]
    if len(train) < cell.labelled or not len(rest):
        raise SystemExit(f"--labelled {cell.labelled}: the training split has {len(able)} studies with an image")
    return train, rest


def share(answers: Predictions, oracle: Oracle) -> tuple[float, float]:
    """AUROC, mean over findings, from all that each study has, and its share of the possible."""
    place = {study: row for row, study in enumerate(np.asarray(oracle.study_ids).tolist())}
    order = [place[study] for study in answers.study_ids.tolist()]
    model = answers.as_present(answers.fused)
    best = answers.as_present({name: oracle.posteriors[name][order] for name in answers.fused})
    aurocs, possible = (
        np.array([roc_auc_score(answers.labels[:, k], values[:, k]) for k in range(values.shape[1])])
        for values in (model, best)
    )
    return float(aurocs.mean()), float(((aurocs - 0.5) / (possible - 0.5)).mean())


def table(experiment: Experiment, cells: Sequence[Cell]) -> pd.DataFrame:
    """One line a scope, way and number of labelled studies: means over seeds."""
    oracle = cohort_kind("phantom").load_oracle(experiment.root)
    assert oracle is not None
    lines = []
    for cell in cells:
        trained = experiment.measured(cell)
        auroc, own = share(trained.test, oracle)
        line = {"read": cell.scope, "way": cell.way, "labelled": cell.labelled, "auroc": auroc, "share": own}
        lines.append(line | {"weights trained": trained.parameters, "seconds": round(trained.seconds)})
        logging.info("%s: share %.3f", cell.folder, own)
    frame = pd.DataFrame(lines)
    grouped = frame.groupby(["read", "labelled", "way"], sort=False)
    means = grouped.mean().reset_index()
    means.insert(5, "sd over seeds", grouped["share"].std(ddof=1).to_numpy())
    for name in ("weights trained", "seconds"):
        means[name] = means[name].round().astype(int)
    return means


def page(found: pd.DataFrame, experiment: Experiment, given: argparse.Namespace, command: str) -> str:
    size = experiment.sections["image"].size
    studies = len(read_cohort(find_recipe(BASE), experiment.root))
    about = (
        f"A phantom of {studies} studies, images of {size} pixels, {given.seeds} draw(s) of labelled studies and of "
        f"weights, about {given.steps} batches each. *Weights trained* are those of the encoders of images and "
        f"notes; *{LINEAR}* trains none, and is fitted in closed form. A share is (AUROC − .5) / (possible − .5), the "
        "mean over the findings. The epoch that is kept is the best on a quarter as many further labelled studies; "
        "nothing was chosen on the test studies."
    )
    parts = ["# Few labels, with and without pretraining", f"Made with\n\n    {command}", about, markdown_table(found)]
    return "\n\n".join(parts) + "\n"


def pretrained(given: argparse.Namespace, root: Path, work: Path) -> str:
    """The folder of the encoders: those named, or of a pretraining that is made now or was before in `work`."""
    if given.encoders:
        return str(resolve_encoders(given.encoders).folder)
    made = work / "encoders.txt"
    if not made.exists():
        found = pretrain(find_recipe(given.recipe, given.settings), root, resume=given.resume, progress=False)
        made.write_text(str(found.folder), encoding="utf-8")
    return made.read_text(encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cohort", nargs="?", type=Path, help="folder of a phantom")
    parser.add_argument("--encoders", help="folder or models:/consilium-encoders-NAME@ALIAS, in place of a pretraining")
    parser.add_argument("--recipe", default="phantom-reports", help="of the pretraining")
    parser.add_argument("--set", dest="settings", action="append", default=[], help="KEY=VALUE of it; repeatable")
    parser.add_argument("--resume", action="store_true", help="go on with an interrupted pretraining")
    parser.add_argument("--labelled", default="100,300,1000")
    parser.add_argument("--scopes", default=",".join(SCOPES), help=f"of {', '.join(SCOPES)}")
    parser.add_argument("--ways", default="; ".join(WAYS), help="some of the ways, with semicolons between them")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=300, help="batches of each training, about")
    parser.add_argument("--out", type=Path, help="folder of what was trained; goes on with what is there")
    parser.add_argument("--page", type=Path, help="Markdown page to write")
    tiny = ["modalities.image.size=64", "modalities.image.width=8", "modalities.text.width=32"]
    tiny += ["modalities.text.depth=1", "fusion.width=32", "evaluation.bootstrap=20"]
    tiny += ["pretraining.stages=[{name: reports, modalities: {text: {note_kinds: [findings]}}, epochs: 1}]"]
    ways = f"{NOTHING}; {LINEAR}; pretrained, LoRA"
    given = read_options(parser, arguments, labelled="24", seeds=1, steps=4, settings=tiny, ways=ways, scopes="all")
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    limit_threads(None)
    command = f"python benchmarks/label_efficiency.py {shlex.join(sys.argv[1:] if arguments is None else arguments)}"
    with TemporaryDirectory(prefix="consilium-benchmark-") as room, phantom(given.cohort, smoke=given.smoke) as root:
        work = (given.out or Path(room)).resolve()
        work.mkdir(parents=True, exist_ok=True)
        stay_in(str(work))
        encoders = pretrained(given, root, work)
        recipe = load_encoders(Path(encoders)).recipe
        experiment = Experiment(root, work, encoders, recipe.modalities, recipe.fusion.width, given.steps)
        cells = [
            Cell(scope, way.strip(), labelled, seed)
            for scope in given.scopes.split(",")
            for labelled in map(int, given.labelled.split(","))
            for way in given.ways.split(";")
            for seed in range(1, given.seeds + 1)
        ]
        text = page(table(experiment, cells), experiment, given, command)
    print(text)
    if given.page is not None:
        given.page.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
