"""What aligned encoders are worth without labels and with few, on a phantom that knows what is possible.

``python benchmarks/pretraining.py COHORT --seeds 3`` pretrains the recipe (``--recipe``, ``--set``) on the cohort's
training split once a seed, and measures on its test split:

- retrieval of a study's record of one modality by its record of another, beside the best possible, and how much more
  alike records of other studies are where they come from the same source;
- zero-shot: findings asked for in the sites' own sentences (the cohort's ``prompts``) and in sentences written by hand;
- few labels: a linear probe on frozen features of each modality, beside the same encoders with random weights.

A share is (AUROC - .5) / (possible - .5), the mean over findings. Nothing is chosen on labels that are not counted: the
probe's strength is fixed. Pretrainings stand in ``--work``, where ``--resume`` goes on with them after an interrupt.
With ``--out`` the tables are written as a page, too.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
from _options import read_options
from _trained import phantom, stay_in

from consilium.artifacts.pretrained_encoders import load_encoders
from consilium.configuration.pretraining_stages import recipe_of_stages
from consilium.configuration.recipe import Recipe
from consilium.network.aligned_encoders import AlignedEncoders
from training.cohorts import cohort_kind
from training.cohorts.cohort import Prompts
from training.cohorts.splits import split_unlabelled
from training.data.cache_folders import file_cache_folder
from training.data.cached_cohort import cache_cohort
from training.evaluation.comparisons import MACRO
from training.fitting.scheduled_module import seeded
from training.pretraining.embeddings import embed_rows
from training.pretraining.encoder_card import markdown_table
from training.pretraining.few_shot import LINEAR, label_efficiency
from training.pretraining.fit_encoders import stage_preprocessing
from training.pretraining.measured import LABELS, ZERO_SHOT, measure_encoders, read_cohort
from training.pretraining.pretrain import RegisteredEncoders, pretrain
from training.recipes import find_recipe

BY_HAND = {
    "pneumonia": Prompts(
        ("There is pneumonia.", "Consolidation of one lobe.", "The lung shows an infiltrate."),
        ("There is no pneumonia.", "The lungs are clear.", "No infiltrate."),
    ),
    "heart_failure": Prompts(
        ("Signs of heart failure.", "The heart is enlarged and the vessels are congested.", "Pulmonary edema."),
        ("No signs of heart failure.", "The heart is normal in size.", "No congestion."),
    ),
    "pleural_effusion": Prompts(
        ("There is a pleural effusion.", "Fluid in the pleural space.", "Effusion at the base."),
        ("There is no pleural effusion.", "No fluid.", "The angles are sharp."),
    ),
    "pneumothorax": Prompts(
        ("There is a pneumothorax.", "Air in the pleural space.", "A pleural line with lucency at the apex."),
        ("There is no pneumothorax.", "No pleural line.", "Lung markings everywhere."),
    ),
}
"""Written without a look at the sites' phrases for reports."""
_RETRIEVAL = (
    "Among at most 100 test studies; *gap*: how much more alike records of other studies are where they come from the "
    "same source."
)


@dataclass(frozen=True)
class Measured:
    """The tables of one seed."""

    retrieval: pd.DataFrame
    zero_shot: pd.DataFrame
    labels: pd.DataFrame


def measured(made: RegisteredEncoders, cohort: Path) -> Measured:
    audit, shots = made.audit, []
    for words, prompts in (("of the sites", None), ("by hand", BY_HAND)):
        if ZERO_SHOT in made.tables:
            table = measure_encoders(str(made.folder), cohort, prompts=prompts)[ZERO_SHOT]
            shots.append(table.assign(words=words))
    retrieval = audit.retrieval
    if not retrieval.empty:
        retrieval = retrieval.merge(audit.similarity[["stage", "pair", "gap"]], on=["stage", "pair"], how="left")
    labels = pd.concat([made.tables[LABELS].assign(encoders="pretrained"), random_probe(made, cohort)])
    return Measured(retrieval, pd.concat(shots) if shots else pd.DataFrame(), labels)


def random_probe(made: RegisteredEncoders, root: Path) -> pd.DataFrame:
    """`label_efficiency` of the same encoders with random weights."""
    stored = load_encoders(made.folder)
    recipe, reads_all = stored.recipe, recipe_of_stages(stored.recipe)
    model = seeded(lambda: AlignedEncoders(reads_all, stored.preprocessing, pretrained=False), recipe.seed).eval()
    cohort = read_cohort(recipe, root)
    cached = cache_cohort(cohort, reads_all, file_cache_folder())
    parts = split_unlabelled(cohort, recipe.splits.model_dump(), recipe.seed)
    reading = stage_preprocessing(stored.preprocessing, recipe, cached)
    train, test = (embed_rows(model, reading, cached, parts[name]) for name in ("train", "test"))
    oracle = cohort_kind(recipe.cohort.kind).load_oracle(root)
    return label_efficiency(cohort, train, test, oracle, recipe.seed).assign(encoders="random")


def mean_over_seeds(tables: Sequence[pd.DataFrame], keys: list[str], figures: list[str]) -> pd.DataFrame:
    """Means of `figures`, and their standard deviation over seeds where there are several."""
    if all(table.empty for table in tables):
        return pd.DataFrame()
    grouped = pd.concat(tables).groupby(keys, sort=False, dropna=False)[figures]
    found = grouped.mean()
    if len(tables) > 1:
        found = found.join(grouped.std(ddof=1).add_suffix(" sd"))
    return found.reset_index()


def page(found: Sequence[Measured], recipe: Recipe, cohort: Path, command: str) -> str:
    """The tables as a page."""
    size = recipe.modalities["image"].size if "image" in recipe.modalities else ""
    epochs = ", ".join(f"{one.name} {one.epochs or recipe.pretraining.epochs}" for one in recipe.pretraining.all_stages)
    studies = len(read_cohort(recipe, cohort))
    retrieval = mean_over_seeds(
        [one.retrieval for one in found],
        ["stage", "pair", "scope", "queries"],
        ["r1", "possible_r1", "r10", "possible_r10", "rank", "possible_rank", "gap"],
    )
    shares = ["auroc", "possible_auroc", "share"]
    shots = mean_over_seeds([_means(one.zero_shot) for one in found], ["words", "modality"], shares)
    probes = [_means(one.labels)[lambda table: table["method"] == LINEAR] for one in found]
    labels = mean_over_seeds(probes, ["modality", "encoders", "labelled"], shares)
    made = f"{studies} studies, {len(found)} seed(s), images of {size} pixels, epochs at most: {epochs}."
    parts = [
        "# Encoders pretrained on a phantom",
        f"Made with\n\n    {command}",
        f"{made} A share is (AUROC − .5) / (possible − .5), the mean over the findings.",
        "## Retrieval",
        _RETRIEVAL,
        markdown_table(retrieval),
        "## Zero-shot",
        markdown_table(shots),
        "## Few labels",
        "A linear probe on frozen features, learned from the labels of so many training studies.",
        markdown_table(labels),
    ]
    return "\n\n".join(parts) + "\n"


def _means(table: pd.DataFrame) -> pd.DataFrame:
    return table if table.empty else table[table["finding"] == MACRO]


def recipes(name: str, settings: Sequence[str], epochs: Sequence[int], seeds: int) -> Iterable[Recipe]:
    """The recipe with each seed, with so many `epochs` in its stages."""
    for seed in range(1, seeds + 1):
        recipe = find_recipe(name, [*settings, f"seed={seed}"])
        stages = recipe.pretraining.all_stages
        if epochs:
            stages = tuple(one.model_copy(update={"epochs": n}) for one, n in zip(stages, epochs, strict=True))
        pretraining = recipe.pretraining.model_copy(update={"stages": stages})
        yield recipe.model_copy(update={"pretraining": pretraining, "name": f"{recipe.name}-{seed}"})


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cohort", nargs="?", type=Path, help="folder of a phantom")
    parser.add_argument("--recipe", default="phantom-reports", help="of the pretraining")
    parser.add_argument("--set", dest="settings", action="append", default=[], help="KEY=VALUE; repeatable")
    parser.add_argument("--epochs", default="", help="of each stage: 20,4")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--resume", action="store_true", help="go on with interrupted pretrainings")
    parser.add_argument("--work", type=Path, help="where pretrainings stand; kept where it is given")
    parser.add_argument("--out", type=Path, help="page to write (Markdown)")
    given = read_options(
        parser,
        arguments,
        epochs="1,1",
        settings=["modalities.image.size=64", "modalities.image.width=8", "evaluation.bootstrap=20"],
    )
    epochs = [int(one) for one in given.epochs.split(",") if one]
    command = "python benchmarks/pretraining.py " + shlex.join(arguments if arguments is not None else sys.argv[1:])
    with TemporaryDirectory(prefix="consilium-benchmark-") as folder, phantom(given.cohort, smoke=given.smoke) as root:
        work = given.work or Path(folder)
        work.mkdir(parents=True, exist_ok=True)
        stay_in(str(work.resolve()))
        chosen = list(recipes(given.recipe, given.settings, epochs, given.seeds))
        found = [measured(pretrain(one, root, resume=given.resume, progress=False), root) for one in chosen]
        text = page(found, chosen[0], root, command)
    print(text)
    if given.out is not None:
        given.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
