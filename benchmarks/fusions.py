"""Every fusion on the evidence of both phantoms: where fusion is easy, and where it is all.

    python benchmarks/fusions.py --out FUSIONS --page docs/measured/fusions.md

From files, what a fusion reaches is mostly what its encoders reach (`consilium compare-fusions` measures that). Here
the encoders lose nothing: each piece of evidence that the oracle reads is a token, a fixed random vector of its channel
plus its value times another, or a fixed random vector for the grade that a note states; what a record lacks is masked.
What a fusion then lacks of the best possible answer is its own. Trained are all fusions, with the same studies and
seeds, on the ordinary phantom, whose findings show in each modality by themselves, and on that of the interaction
scheme (`training/cohorts/phantom/interaction.py`), whose do not. Beside them stand the bounds: the best possible
answer, and the product of the best answers from one modality each.

Each training is kept below ``--out``, so that a call which was stopped goes on where it was, and one with more seeds
trains only those.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from _options import read_options

from consilium.configuration.recipe import Recipe
from consilium.modalities.registry import subset_key
from consilium.modalities.tokens import Tokens
from consilium.network.fusion import TRAINED_FUSIONS
from consilium.system.threads import limit_threads
from training.cohorts.phantom.observations.phantom import ValueReading
from training.cohorts.phantom.oracle import PhantomOracle, Readings, has_modalities, log_likelihoods, read_drawn
from training.cohorts.phantom.record import Design, draw_study
from training.cohorts.phantom.schemes import DEFAULT_MODALITIES, SCHEMES
from training.cohorts.phantom.state import FINDINGS, phantom_findings
from training.evaluation.comparisons import MACRO
from training.evaluation.rows import ALL_PRESENT
from training.experiments.fusion_comparison.contenders import BOUND, Scorer
from training.experiments.fusion_comparison.fusing import fit_fusion, predict_fusion
from training.experiments.fusion_comparison.scoring import difference_table, measure, share_table
from training.experiments.fusion_comparison.tokens import TokenSet, store_tokens
from training.experiments.fusion_comparison.trained import Trained, kept
from training.recipes import find_recipe

SPLITS = ("train", "validation", "calibration", "test")
EVERYTHING = subset_key(DEFAULT_MODALITIES)
_CHUNK = 500
_MOST_GRADES = 7
_EMBEDDING_SEED = 77
_MEAN_AGE, _AGE_SPREAD = 56.0, 20.0

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """The studies of one scheme.

    Attributes
    ----------
    tokens : mapping of split to TokenSet
    oracle : PhantomOracle
        Of the test studies.
    """

    tokens: Mapping[str, TokenSet]
    oracle: PhantomOracle


def embedded(readings: Readings, present: npt.NDArray[np.bool_], width: int) -> dict[str, Tokens]:
    """Tokens of what the oracle reads of N studies, one a channel; age and sex are tokens of the values."""
    rng = np.random.default_rng(_EMBEDDING_SEED)
    values: ValueReading = readings["observations"]
    age = (values.age - _MEAN_AGE) / _AGE_SPREAD
    numbers = {
        "image": (readings["image"], np.ones(readings["image"].shape, bool)),
        "observations": (
            np.column_stack([values.written, age, values.sex]),
            np.column_stack([values.measured, np.ones((len(age), 2), bool)]),
        ),
    }
    found = {name: _of_numbers(rng, *given, width) for name, given in numbers.items()}
    grades = readings["text"]
    words = rng.normal(size=(grades.shape[1], _MOST_GRADES, width))
    found["text"] = (words[np.arange(grades.shape[1]), grades], np.ones(grades.shape, bool))
    return {
        name: Tokens(
            torch.from_numpy(found[name][0].astype(np.float32)), torch.from_numpy(found[name][1] & present[:, [place]])
        )
        for place, name in enumerate(DEFAULT_MODALITIES)
    }


def _of_numbers(
    rng: np.random.Generator, x: Floats, there: npt.NDArray[np.bool_], width: int
) -> tuple[Floats, npt.NDArray[np.bool_]]:
    channel, slope = rng.normal(size=(2, x.shape[1], width))
    return (channel + 0.5 * x[:, :, None] * slope) / np.sqrt(2), there


def drawn(design: Design, numbers: range) -> Iterator[tuple[Readings, npt.NDArray[np.bool_], list[str], Floats]]:
    """Of the studies with these `numbers`, in chunks: readings, which modalities each has, ids, labels."""
    states, model = design.states(), design.evidence()
    for start in range(numbers.start, numbers.stop, _CHUNK):
        studies = [draw_study(design, i, states, model) for i in range(start, min(start + _CHUNK, numbers.stop))]
        labels = np.array([[study.state.labels[name] for name in FINDINGS] for study in studies], np.float64)
        ids = [study.study_id for study in studies]
        yield read_drawn(design, model, studies), has_modalities(model, studies), ids, labels


def evidence(scheme: str, sizes: Mapping[str, int], seed: int, width: int, folder: Path) -> Evidence:
    """Studies of a scheme, drawn, or read where they were kept."""
    design, start = Design(seed, 64, scheme=scheme), 0
    for split, size in sizes.items():
        numbers, start = range(start, start + size), start + size
        if not (folder / split).exists():
            _keep(design, numbers, width, folder / split)
    with np.load(folder / "test" / "oracle.npz", allow_pickle=False) as stored:
        states = design.states()
        found = (stored["study_ids"], FINDINGS, design.modalities, states.prior, stored["likelihoods"])
    return Evidence({split: TokenSet(folder / split) for split in sizes}, PhantomOracle(*found, pd.DataFrame()))


def _keep(design: Design, numbers: range, width: int, folder: Path) -> None:
    states, model = design.states(), design.evidence()
    chunks = list(drawn(design, numbers))
    ids = np.array([study for _, _, some, _ in chunks for study in some])
    tokens: Iterable[Mapping[str, Tokens]] = (embedded(readings, has, width) for readings, has, _, _ in chunks)
    labels = np.concatenate([labels for *_, labels in chunks])
    store_tokens(folder, tokens, study_ids=ids, patient_ids=ids, labels=labels)
    if folder.name == "test":
        likelihoods = [log_likelihoods(states, model, readings, has) for readings, has, _, _ in chunks]
        np.savez_compressed(folder / "oracle.npz", study_ids=ids, likelihoods=np.concatenate(likelihoods))


def trained(recipe: Recipe, tokens: Mapping[str, TokenSet], folder: Path, about: str) -> Trained:
    """One fusion at one seed, as it was kept or trained now."""

    def make() -> Trained:
        size = recipe.training.batch_size
        fitted = fit_fusion(recipe, phantom_findings(), tokens["train"], tokens["validation"], folder)
        answers = (predict_fusion(fitted.model, tokens[split], size) for split in ("calibration", "test"))
        return Trained(fitted.epochs, fitted.validation_loss, fitted.seconds, fitted.parameters, *answers)

    parts = (recipe.seed, recipe.fusion, recipe.objectives, recipe.training)  # how it is scored changes no training
    return kept(folder, f"{parts}\n{about}", make)


def scored(recipe: Recipe, found: Mapping[str, Sequence[Trained]], known: Evidence) -> dict[str, pd.DataFrame]:
    """Shares of the possible, differences to the product of exact experts, and cost."""
    scorer = Scorer(recipe, phantom_findings(), next(iter(found.values()))[0].test, known.oracle)
    contenders = [scorer.contender(f"fusion/{name}", ones) for name, ones in found.items()] + scorer.bounds()
    measurements = measure(scorer.tested, contenders)
    cost = [{"contender": c.name, "seconds": c.seconds, "parameters": c.parameters} for c in contenders]
    return {
        "shares": share_table(scorer.tested, contenders, measurements),
        "differences": difference_table(measurements, [BOUND]),
        "cost": pd.DataFrame(cost),
    }


def main(argv: Sequence[str] | None = None) -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--out", type=Path, help="folder for what was drawn and trained; goes on with what is there")
    arguments.add_argument("--page", type=Path, help="Markdown page to write")
    arguments.add_argument("--fusions", default=",".join(TRAINED_FUSIONS))
    arguments.add_argument("--schemes", default=",".join(SCHEMES))
    arguments.add_argument("--seeds", type=int, default=2)
    arguments.add_argument("--seed", type=int, default=41, help="of the phantoms")
    arguments.add_argument("--sizes", default="6000,1000,2000,4000", help=f"studies of {', '.join(SPLITS)}")
    arguments.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a key of the recipe")
    small = ["training.epochs=1", "evaluation.bootstrap=20"]
    given = read_options(arguments, argv, sizes="80,40,40,60", seeds=1, fusions="late,hierarchical", set=small)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    recipe = find_recipe("phantom-demo", [*SETTINGS, *given.set])
    limit_threads(recipe.training.threads)
    with TemporaryDirectory() as room:
        tables = measured(recipe, given, given.out or Path(room))
    if given.page is not None:
        given.page.write_text(page(recipe, given, tables), encoding="utf-8")
    for name, found in tables.items():
        print(f"{name}: share of the possible AUROC", *rows(found), sep="\n")


SETTINGS = (
    "fusion.width=32",
    "fusion.depth=2",
    "fusion.heads=4",
    "training.epochs=15",
    "training.batch_size=128",
    "training.learning_rate=0.002",
    "training.patience=5",
)
"""What is changed of the recipe, before ``--set``."""


def measured(recipe: Recipe, given: argparse.Namespace, out: Path) -> dict[str, dict[str, pd.DataFrame]]:
    """The tables of both schemes."""
    sizes = dict(zip(SPLITS, map(int, given.sizes.split(",")), strict=True))
    names, tables = given.fusions.split(","), {}
    for scheme in given.schemes.split(","):
        folder = out / scheme / f"{given.seed}_{recipe.fusion.width}_{given.sizes.replace(',', '_')}"
        known = evidence(scheme, sizes, given.seed, recipe.fusion.width, folder)
        found: dict[str, list[Trained]] = {}
        for name in names:
            for k in range(given.seeds):
                fusion = recipe.fusion.model_copy(update={"name": name})
                one = recipe.model_copy(update={"seed": recipe.seed + k, "fusion": fusion})
                about = f"{scheme} {given.seed} {given.sizes}"
                found.setdefault(name, []).append(trained(one, known.tokens, folder / f"seed_{k}" / name, about))
        tables[scheme] = scored(recipe, found, known)
    return tables


def rows(tables: Mapping[str, pd.DataFrame]) -> Iterator[str]:
    """A Markdown table, best first."""
    shares = tables["shares"][tables["shares"]["finding"] == MACRO]
    cost = tables["cost"].set_index("contender")
    subsets = [ALL_PRESENT, EVERYTHING, *(s for s in shares["subset"].unique() if s not in (ALL_PRESENT, EVERYTHING))]
    titles = [subset.replace("_", " ").replace("+", " + ") for subset in subsets]
    yield "| " + " | ".join(["fusion", *titles, "seconds", "weights"]) + " |"
    yield "| " + " | ".join(["---"] * (len(subsets) + 3)) + " |"
    order = shares[shares["subset"] == EVERYTHING].sort_values("auroc_share", ascending=False)["contender"]
    for name in order:
        lines = shares[shares["contender"] == name].set_index("subset")
        cells = [_cell(lines.loc[subset], subset in (ALL_PRESENT, EVERYTHING)) for subset in subsets]
        seconds, weights = cost.loc[name, "seconds"], int(cost.loc[name, "parameters"])
        paid = [f"{seconds:.0f}", f"{weights:,}"] if weights else ["–", "–"]
        shown = name.replace("bound/", "bound: ").replace("fusion/", "").replace("_", " ")
        yield "| " + " | ".join([shown, *cells, *paid]) + " |"


def _cell(line: pd.Series, interval: bool) -> str:
    value, low, high, spread = (float(line[f"auroc_share{end}"]) for end in ("", "_low", "_high", "_sd"))
    if not interval:
        return f"{value:.3f}"
    seeds = "" if np.isnan(spread) else f" ± {spread:.3f}"
    return f"{value:.3f} [{low:.3f}, {high:.3f}]{seeds}"


def page(recipe: Recipe, given: argparse.Namespace, tables: Mapping[str, Mapping[str, pd.DataFrame]]) -> str:
    """What was measured, with the command that did."""
    train, validation, calibration, test = given.sizes.split(",")
    settings = "".join(f" --set {setting}" for setting in given.set)
    chosen = "" if given.fusions == ",".join(TRAINED_FUSIONS) else f" --fusions {given.fusions}"
    command = f"python benchmarks/fusions.py --seeds {given.seeds} --seed {given.seed} --sizes {given.sizes}{chosen}"
    left = [name.replace("_", " ") for name in TRAINED_FUSIONS if name not in given.fusions.split(",")]
    lines = [
        PAGE.format(
            command=f"{command}{settings}",
            left=f" Not trained here: {', '.join(left)}; without `--fusions` all are." if left else "",
            train=train,
            validation=validation,
            calibration=calibration,
            test=test,
            seeds=given.seeds,
            epochs=recipe.training.epochs,
            width=recipe.fusion.width,
            depth=recipe.fusion.depth,
            batch=recipe.training.batch_size,
        )
    ]
    for scheme, found in tables.items():
        lines += [f"## The {scheme} phantom", "", TITLES[scheme], "", *rows(found), "", *_bound(found), ""]
    return "\n".join(lines)


def _bound(tables: Mapping[str, pd.DataFrame]) -> Iterator[str]:
    """Which fusions are above or below the product of exact experts by more than chance."""
    differences = tables["differences"]
    lines = differences[(differences["finding"] == MACRO) & (differences["subset"] == EVERYTHING)]
    lines = lines[lines["contender"].str.startswith("fusion/")]
    yield (
        "AUROC with all three modalities less that of the product of exact experts, on the same studies: "
        + "; ".join(
            f"{line['contender'].removeprefix('fusion/').replace('_', ' ')} {line['auroc_difference']:+.3f} "
            f"[{line['auroc_difference_low']:+.3f}, {line['auroc_difference_high']:+.3f}]"
            for line in lines.sort_values("auroc_difference", ascending=False).to_dict(orient="records")
        )
        + "."
    )


TITLES = {
    "ordinary": "Each modality says something of each finding by itself; what one must know of the others is which\n"
    "confounder explains a shadow away.",
    "interaction": "What a modality shows means little before another one is read\n"
    "(`training/cohorts/phantom/interaction.py`).",
}

PAGE = """# Fusions

How near each fusion comes to the best possible answer where its encoders lose nothing: every piece of evidence that the
oracle reads is one token. Made with

    {command} --out FUSIONS --page docs/measured/fusions.md

on {train} studies to learn from, {validation} to validate on, {calibration} to calibrate with and {test} to test, of
each phantom; trainings of each fusion: {seeds}, of at most {epochs} epochs in batches of {batch}, width {width}, depth
{depth}; nothing was chosen on the test studies. A share is (AUROC - .5) / (possible - .5), mean over the four findings
and the trainings, with the 95 % interval by bootstrap over the test patients and, behind ±, the standard deviation
over the trainings. *As present* is what each study has. *Product of experts* multiplies the odds of the best possible
answers from one modality each: what can be reached without reading one modality in the light of another. *Seconds* is
processor time of one training. From files, with encoders that learn, fusions are compared by
`consilium compare-fusions`.

A training as small as this one shows which fusions learn soon to read one modality in the light of another, not which
can learn it at all.

The command goes on where it was stopped; more seeds, studies or epochs are options.{left}
"""


if __name__ == "__main__":
    main()
