"""Which distance of an encoder's features detects inputs out of distribution best.

``python benchmarks/out_of_distribution.py MODEL COHORT``

AUROC of test studies altered in every way against the same studies unaltered, by the encoder's features alone:
the Mahalanobis distance that ships, the relative one (Ren et al. 2021; a class is a combination of findings), and the
distance to the k-th nearest training study of features at length 1 (Sun et al., ICML 2022). The last column is the
score that ships, with the statistics of words and values beside the features.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from _options import read_options
from _trained import trained_model
from rich.console import Console
from rich.table import Table
from sklearn.metrics import roc_auc_score

from consilium.artifacts.artifact import load_artifact
from consilium.artifacts.model_registry import resolve
from consilium.preprocessing.batch import Prepared
from consilium.referral.out_of_distribution import Gaussian, Inputs
from consilium.system.threads import limit_threads
from training.cohorts import cohort_kind, load_cohort
from training.cohorts.splits import split_cohort
from training.data.cache_folders import file_cache_folder
from training.data.cached_cohort import cache_cohort
from training.data.datamodule import StudyDataset
from training.evaluation.out_of_distribution import Case, all_kinds
from training.evaluation.out_of_distribution.detection import alter
from training.evaluation.predict import predict

Distance = Callable[[np.ndarray], np.ndarray]


def mahalanobis(features: np.ndarray) -> Distance:
    gaussian = Gaussian.fit(torch.from_numpy(features))
    return lambda asked: gaussian.distance(torch.from_numpy(asked)).numpy()


def relative_mahalanobis(features: np.ndarray, labels: np.ndarray, least: int) -> Distance:
    classes = np.nan_to_num(labels) @ (2 ** np.arange(labels.shape[1]))
    kept = [name for name in np.unique(classes) if (classes == name).sum() >= least]
    means = {name: features[classes == name].mean(axis=0) for name in kept}
    within = np.concatenate([features[classes == name] - means[name] for name in kept])
    shared, everything = Gaussian.fit(torch.from_numpy(within)), mahalanobis(features)

    def distance(asked: np.ndarray) -> np.ndarray:
        own = [shared.distance(torch.from_numpy(asked - mean) + shared.mean).numpy() ** 2 for mean in means.values()]
        return np.min(own, axis=0) - everything(asked) ** 2

    return distance


def nearest(features: np.ndarray, k: int) -> Distance:
    reference = features / np.linalg.norm(features, axis=1, keepdims=True)

    def distance(asked: np.ndarray) -> np.ndarray:
        cosine = asked / np.linalg.norm(asked, axis=1, keepdims=True) @ reference.T
        return -np.sort(cosine, axis=1)[:, -k]

    return distance


def main(argv: Sequence[str] | None = None) -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("model", nargs="?", help="a model folder or models:/ URI, with a detector")
    arguments.add_argument("cohort", nargs="?", type=Path, help="the cohort that it was trained on, with a test split")
    arguments.add_argument("--studies", type=int, default=200)
    arguments.add_argument("--least", type=int, default=30, help="studies of a class, for the relative distance")
    arguments.add_argument("--k", type=int, default=10)
    given = read_options(arguments, argv, studies=8, k=2, least=2)
    limit_threads()
    with trained_model(given.model, given.cohort, smoke=given.smoke) as (model, cohort):
        compare(model, cohort, given.studies, given.k, given.least)


def compare(source: str, root: Path, studies: int, k: int, least: int) -> None:
    artifact = load_artifact(resolve(source).folder)
    model, preprocessing, recipe, detector = artifact.model, artifact.preprocessing, artifact.recipe, artifact.detector
    assert detector is not None, "this model has no out-of-distribution detector"
    chosen = recipe.cohort
    masks = recipe.masks_identifiers
    cohort = load_cohort(chosen.kind, root, chosen.options, mask_notes=masks)
    cached = cache_cohort(cohort, recipe, file_cache_folder())
    parts = split_cohort(cohort, recipe.splits.model_dump(), recipe.seed)
    seen = predict(model, preprocessing, cached, parts["train"], recipe)
    dataset = StudyDataset(cached, preprocessing, parts["test"][:studies])
    items = [dataset[position][0] for position in range(len(dataset))]
    renderer = cohort_kind(chosen.kind).load_renderer(cohort.root)
    cases = [Case(cohort.records[row], cached.studies[row], renderer, cohort.variables) for row in dataset.rows]

    def inputs(studies: list[Prepared]) -> Inputs:
        found = []
        for start in range(0, len(studies), recipe.training.batch_size):
            batch = preprocessing.collate(studies[start : start + recipe.training.batch_size])
            with torch.inference_mode():
                found.append(Inputs.of(batch, model(batch).features))
        return Inputs.concatenate(found)

    ways: dict[str, dict[str, Distance]] = {}
    for modality in recipe.modalities:
        features = seen.features[modality]
        known = ~np.isnan(features).any(axis=1)
        ways[modality] = {
            "Mahalanobis": mahalanobis(features[known]),
            "relative": relative_mahalanobis(features[known], seen.labels[known], least),
            f"{k} nearest": nearest(features[known], k),
        }
    columns = ("Mahalanobis", "relative", f"{k} nearest", "as shipped")
    table = Table("kind", "distance", "n", *columns, title=f"{recipe.name}: AUROC")
    rng = np.random.default_rng(recipe.seed)
    for kind in all_kinds():
        rows = [row for row, item in enumerate(items) if kind.modality in item.present]
        if not rows or kind.modality not in recipe.modalities or (kind.rendered and renderer is None):
            continue
        part = kind.modality
        changed = [alter(preprocessing, kind, cases[row], items[row], rng) for row in rows]
        pairs = inputs([items[row] for row in rows]), inputs([item for item in changed if item is not None])
        truth = np.repeat([0, 1], [len(one.features[part]) for one in pairs])
        scores = [np.concatenate([way(one.features[part].numpy()) for one in pairs]) for way in ways[part].values()]
        scores.append(np.concatenate([detector.score(one)[part].numpy() for one in pairs]))
        figures = [f"{roc_auc_score(truth, score):.3f}" for score in scores]
        table.add_row(kind.name, "far" if kind.far else "near", str(len(rows)), *figures)
    Console().print(table)


if __name__ == "__main__":
    main()
