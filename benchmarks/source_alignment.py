"""What it brings to make sources alike, judged on sources left out: ``python benchmarks/source_alignment.py COHORT``.

A model of a phantom is trained for each of its sources without that source's studies (`source_folds`), plainly and with
the objectives ``coral`` and ``adversarial``, and answers the studies of the source left out. A share is
(AUROC - .5) / (possible - .5), the mean over the findings. *Source told* is the balanced accuracy with which a linear
map tells the source from the fused state of held-out studies of the sources that were learned from; *chance* is what
guessing gives. A phantom that was written with ``--shortcut 0.8`` has a site that follows the first finding. With
``--out`` the command goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
from _options import read_options
from _trained import NOWHERE, phantom, stay_in
from label_efficiency import share
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from consilium.configuration.recipe import Recipe
from consilium.network.diagnosis_model import FUSED
from consilium.system.threads import limit_threads
from training.audit.sources import SourceFold, source_folds
from training.cohorts import cohort_kind
from training.data.cache_folders import file_cache_folder
from training.data.cached_cohort import CachedCohort, cache_cohort
from training.evaluation.predict import predict
from training.evaluation.predictions import Predictions
from training.experiments.fusion_comparison.trained import Trained, kept
from training.fitting.fit import fit
from training.pipeline.protocols import inner_split
from training.pretraining.encoder_card import markdown_table
from training.pretraining.measured import read_cohort
from training.recipes import find_recipe

WAYS: Mapping[str, Sequence[str]] = {
    "plain": (),
    "coral": ("objectives.coral={weight}",),
    "adversarial": ("objectives.adversarial={weight}",),
}
_FOLDS = 3


def trained(cached: CachedCohort, recipe: Recipe, fold: SourceFold, folder: Path) -> Trained:
    """A model without the source; its answers to held-out studies of the others (`calibration`), and to the source."""
    inner, held_out = inner_split(cached.cohort, fold.train, recipe)

    def make() -> Trained:
        begun = time.process_time()
        found = fit(cached, recipe, inner, held_out, folder / "fit", NOWHERE)
        seconds = time.process_time() - begun
        assert held_out is not None
        assert found.validation_loss is not None
        parts = (predict(found.model, found.preprocessing, cached, rows, recipe) for rows in (held_out, fold.test))
        return Trained(found.epochs, found.validation_loss, seconds, 0, *parts)

    return kept(folder, f"{recipe.to_yaml()}\n{cached.cohort.digest}\n{fold.source}", make)


def source_told(cached: CachedCohort, answers: Predictions) -> tuple[float, float]:
    """Balanced accuracy, cross-validated, of the source from the fused state; and chance."""
    of = {record.study_id: record.source or "" for record in cached.cohort.records}
    sources = np.array([of[study] for study in answers.study_ids.tolist()])
    reader = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=500, class_weight="balanced"))
    told = cross_val_predict(reader, answers.features[FUSED], sources, cv=_FOLDS)
    return float(balanced_accuracy_score(sources, told)), 1 / len(np.unique(sources))


def table(root: Path, work: Path, given: argparse.Namespace) -> pd.DataFrame:
    """One line a way and source left out, the mean over seeds."""
    lines = []
    oracle = cohort_kind("phantom").load_oracle(root)
    assert oracle is not None
    for way, settings in WAYS.items():
        for seed in range(1, given.seeds + 1):
            chosen = [setting.format(weight=given.weight) for setting in settings]
            recipe = find_recipe(given.recipe, [*given.settings, *chosen, f"seed={seed}"])
            cohort = read_cohort(recipe, root)
            cached = cache_cohort(cohort, recipe, file_cache_folder())
            for fold in source_folds(cohort):
                found = trained(cached, recipe, fold, work / way / f"{fold.source}_{seed}")
                auroc, own = share(found.test, oracle)
                told, chance = source_told(cached, found.calibration)
                line = {"way": way, "left out": fold.source, "studies": len(fold.test), "auroc": auroc, "share": own}
                lines.append(line | {"source told": told, "chance": chance})
    frame = pd.DataFrame(lines)
    alone = frame.groupby(["way", "left out"], sort=False).mean().reset_index()
    means = frame.drop(columns=["left out", "studies"]).groupby("way", sort=False).mean().reset_index()
    return pd.concat([alone, means.assign(**{"left out": "mean"})])


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cohort", nargs="?", type=Path, help="folder of a phantom")
    parser.add_argument("--recipe", default="phantom-demo")
    parser.add_argument("--set", dest="settings", action="append", default=[], help="KEY=VALUE; repeatable")
    parser.add_argument("--weight", type=float, default=0.3, help="of the objective")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--out", type=Path, help="folder of what was trained; goes on with what is there")
    small = ["modalities.image=false", "modalities.text=false", "training.epochs=1"]
    given = read_options(parser, arguments, recipe="phantom-tiny", settings=small)
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    logging.getLogger("training").setLevel(logging.ERROR)
    limit_threads(None)
    with TemporaryDirectory(prefix="consilium-benchmark-") as room, phantom(given.cohort, smoke=given.smoke) as root:
        work = (given.out or Path(room)).resolve()
        work.mkdir(parents=True, exist_ok=True)
        stay_in(str(work))
        print(markdown_table(table(root, work, given)))


if __name__ == "__main__":
    main()
