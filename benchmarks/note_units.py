"""Notes of a small cohort by whole words and by word pieces: ``python benchmarks/note_units.py COHORT``.

The linear model of the recipe covid-small with notes alone, on the draws of patient-grouped folds that the page of
severity has, without calibration. AUROC within folds by their pairs of studies, mean over the draws, lowest, highest.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from _options import read_options
from _public import write_public
from sklearn.metrics import roc_auc_score

from consilium.configuration.recipe import Recipe
from training.cohorts import load_cohort
from training.cohorts.splits import Indices, folds
from training.data.cached_cohort import CachedCohort, cache_cohort
from training.evaluation.predict import predict
from training.fitting.closed_form.fit_stacked import fit_stacked
from training.recipes import find_recipe

UNITS = ("words", "pieces")
_ALONE = ("modalities.image=false", "modalities.observations=false")


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cohort", nargs="?", type=Path)
    parser.add_argument("--draws", type=int, default=5)
    options = read_options(parser, argv, draws=1)
    logging.getLogger("consilium").setLevel(logging.ERROR)
    logging.getLogger("training").setLevel(logging.ERROR)
    with TemporaryDirectory(prefix="consilium-benchmark-") as folder:
        root = options.cohort
        if options.smoke:
            root = Path(folder) / "cohort"
            write_public(root)
        if root is None:
            parser.error("COHORT must be given, or --smoke")
        for units in UNITS:
            found = measure(root, units, options.draws, Path(folder) / "cache")
            print(f"{units}: {np.mean(found):.2f} ({min(found):.2f} to {max(found):.2f})")


def measure(root: Path, units: str, draws: int, cache: Path) -> list[float]:
    """AUROC within folds of each draw."""
    recipe = find_recipe("covid-small", [*_ALONE, f"modalities.text.units={units}"])
    cohort = load_cohort(recipe.cohort.kind, root, recipe.cohort.options, mask_notes=recipe.masks_identifiers)
    cached = cache_cohort(cohort, recipe, cache)

    found = []
    for draw in range(draws):
        pairs = folds(cohort, recipe.evaluation.folds, recipe.seed + draw)
        by_fold = np.array([_auroc(cached, recipe, train, test) for train, test in pairs])
        found.append(float(np.average(by_fold[:, 0], weights=by_fold[:, 1])))
    return found


def _auroc(cached: CachedCohort, recipe: Recipe, train: Indices, test: Indices) -> tuple[float, int]:
    """AUROC on the fold, and how many pairs of a study with and one without the finding it has."""
    fitted = fit_stacked(cached, recipe, train)
    found = predict(fitted.model, fitted.preprocessing, cached, test, recipe)
    labels, logits = found.labels[:, 0], next(iter(found.fused.values()))[:, 0]
    known = ~np.isnan(labels) & ~np.isnan(logits)
    pairs = int((labels[known] == 1).sum() * (labels[known] == 0).sum())
    return (roc_auc_score(labels[known], logits[known]) if pairs else 0.0), pairs


if __name__ == "__main__":
    main()
