"""Tables of a model card out of an evaluation's: what a reader needs of each, in the reader's order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from consilium.domain.variables import Interval, Variable
from consilium.formats.lab_notation import measured
from consilium.modalities.registry import modality_names, nonempty_subsets, subset_key
from consilium.network.diagnosis_model import FUSED
from consilium.output.labels import display_name
from training.card.card_writing import CardTable, Words, crossed_table, frame_table
from training.evaluation.comparisons import MACRO
from training.evaluation.metrics import WITHIN_FOLDS
from training.evaluation.out_of_distribution import ORDINARY
from training.evaluation.rows import ALL_PRESENT, AS_PRESENT, RowKind

Tables = Mapping[str, pd.DataFrame]

_MOST_GAPS = 10
_POSSIBLE = ("oracle_auroc", "auroc_share", "information_share")
_COUNTED = "counted"
_GROUP_FIGURES = {
    "auroc": "AUROC of each group",
    "sensitivity": "Sensitivity of each group",
    "specificity": "Specificity of each group",
    _COUNTED: "Studies with the finding, of each group's",
}


def variable_table(variables: Sequence[Variable]) -> CardTable:
    """What values are accepted: under which codes, in which unit or of which categories, beside which interval."""
    rows = tuple(
        (
            variable.display,
            ", ".join(code.code for code in variable.codes),
            ", ".join(variable.categories) or measured("", variable.unit) or "a number",
            _usual(variable),
        )
        for variable in variables
    )
    return CardTable("Values", ("value", "codes", "unit or categories", "reference"), rows)


def parameter_tables(parameters: Mapping[str, Mapping[str, int]]) -> list[CardTable]:
    """How many weights were trained, of each encoder and of the rest; none where that is not known."""
    if not parameters:
        return []
    names = {FUSED: "fusion and heads"} | {name: display_name(name).lower() for name in parameters if name != FUSED}
    rows = tuple((names[name], f"{of['trained']:,}", f"{of['all']:,}") for name, of in parameters.items())
    return [CardTable("Weights", ("part", "trained", "all"), rows)]


def _usual(variable: Variable) -> str:
    if variable.categories:
        return ", ".join(variable.normal_categories)
    by_sex = {"female": variable.female, "male": variable.male}
    known = {"": variable.reference} if None in by_sex.values() else by_sex
    return "; ".join(f"{name} {low:g} to {high:g}".strip() for name, (low, high) in _intervals(known))


def _intervals(known: Mapping[str, Interval | None]) -> list[tuple[str, Interval]]:
    return [(name, interval) for name, interval in known.items() if interval is not None]


def performance_tables(tables: Tables, words: Words) -> list[CardTable]:
    """Findings at their operating points, every way of answering, differences, shares of the possible."""
    metrics = tables["metrics"]
    points = tables["operating_points"][["finding", "threshold"]]
    own = metrics[(metrics["row"] == AS_PRESENT) & (metrics["finding"] != MACRO)].merge(points, on="finding")
    answers = metrics[(metrics["finding"] == MACRO) & ~_of_kind(metrics, RowKind.ORACLE)]
    shares = tables.get("oracle_shares")
    if shares is not None:
        possible = [name for name in shares.columns if str(name).startswith(_POSSIBLE)]
        answers = answers.merge(shares.loc[shares["finding"] == MACRO, ["row", *possible]], on="row", how="left")
    ranked = ("auroc", WITHIN_FOLDS)
    at_point = ("finding", "n", "positives", *ranked, "threshold", "sensitivity", "specificity", "precision")
    answered = ("row", "n", *ranked, *_POSSIBLE, "auprc", "nll")
    found = [
        frame_table("Each finding, from all that a study has", own, words, at_point),
        frame_table("Every way of answering, mean over findings", answers, words, answered),
    ]
    if "repeats" in tables:
        draws = tables["repeats"][tables["repeats"]["finding"] == MACRO]
        drawn = ("row", "n", "draws", "auroc", "lowest", "highest", "averaged_auroc")
        found.append(frame_table("The same over several draws of the folds", draws, words, drawn))
    if "comparisons" in tables:
        mean = tables["comparisons"][tables["comparisons"]["finding"] == MACRO]
        columns = ("row", "against", "n", "auroc_difference", "nll_difference")
        found.append(frame_table("Differences on the same studies, mean over findings", mean, words, columns))
    if shares is not None:
        each = shares[(shares["row"] == AS_PRESENT) & (shares["finding"] != MACRO)]
        title = "Each finding beside the best possible answer"
        found.append(frame_table(title, each, words, ("finding", "n", "auroc", *_POSSIBLE)))
    return found


def _of_kind(table: pd.DataFrame, kind: RowKind) -> pd.Series[bool]:
    return table["row"].map(lambda row: row.kind is kind)


def calibration_tables(tables: Tables, words: Words) -> list[CardTable]:
    """Calibration error of every modality subset, coverage."""
    fused = tables["metrics"][_of_kind(tables["metrics"], RowKind.FUSED)]
    title = "Calibration error, by what was read"
    found = [crossed_table(title, fused, words, index=("row",), across="finding", figure="ece")]
    if "coverage" in tables:
        found += _coverage_tables(tables["coverage"], words)
    return found


def _coverage_tables(coverage: pd.DataFrame, words: Words) -> list[CardTable]:
    """All studies with the band of each class, then the share covered by what was read."""
    whole = coverage["subset"] == ALL_PRESENT
    columns = ("finding", "class", "n", "coverage", "band_low", "band_high", "in_band", "set_size", "both", "empty")
    found = [frame_table("Coverage of the prediction sets", coverage[whole], words, columns)]
    present = set(coverage["subset"])
    read = [name for name in modality_names() if any(name in subset.split("+") for subset in present)]
    subsets = [key for subset in nonempty_subsets(read) if (key := subset_key(subset)) in present]
    fused = coverage[coverage["subset"].isin(subsets)]
    fused = fused.sort_values("subset", key=lambda names: names.map(subsets.index), kind="stable")
    for name in fused["class"].unique().tolist():
        title = f"Coverage where the finding is {name}, by what was read"
        own = fused[fused["class"] == name]
        found.append(crossed_table(title, own, words, index=("subset",), across="finding", figure="coverage"))
    return found


def target_tables(tables: Tables, words: Words) -> list[CardTable]:
    """Grades and times, from all that a study has beside the best possible; each step of them."""
    targets, steps = tables["targets"], tables["target_steps"]
    columns = ("target", "step", "n", "passed", "auroc", "brier", "ece")
    own = steps[steps["row"] == AS_PRESENT]
    return [
        frame_table("Each target", targets[~targets["row"].map(lambda row: row.of_one_subset)], words),
        frame_table("Each step of them, from all that a study has", own, words, columns),
    ]


def doubt_tables(tables: Tables, words: Words) -> list[CardTable]:
    """Altered inputs by the score of what was altered and by that of all together; what referring gains."""
    found = []
    if "out_of_distribution" in tables:
        table = tables["out_of_distribution"]
        usual = table["distance"] == ORDINARY
        changed, together = table[~usual & (table["part"] != FUSED)], table[~usual & (table["part"] == FUSED)]
        columns = ("distance", "n", "auroc", "fpr95", "flagged", "absent")
        found = [
            frame_table("Altered inputs, as the changed part shows them", changed, words, ("kind", "part", *columns)),
            frame_table("Altered inputs, as all parts together show them", together, words, ("kind", *columns)),
            frame_table("Ordinary studies called out of distribution", table[usual], words, ("part", "n", "flagged")),
        ]
    titles = {"selective": "Errors among what it answers", "net_benefit": "Net benefit of acting by it"}
    return found + [frame_table(title, tables[name], words) for name, title in titles.items() if name in tables]


def group_tables(tables: Tables, words: Words) -> tuple[list[CardTable], int]:
    """The widest gaps, and each figure by group and finding; how many groups are too small for any figure."""
    table = tables["subgroups"]
    evaluated = table.groupby(["kind", "group"])["auroc"].transform("count") > 0
    small = len(table.loc[~evaluated, ["kind", "group"]].drop_duplicates())
    found = []
    if "gaps" in tables:
        gaps = tables["gaps"].sort_values("gap", ascending=False, kind="stable").head(_MOST_GAPS)
        found.append(frame_table("The widest gaps between two groups", gaps, words))
    if evaluated.any():
        counts = {_COUNTED: table["positives"].astype(str) + " of " + table["n"].astype(str)}
        shown = table.assign(**counts)[evaluated]
        found += [
            crossed_table(title, shown, words, index=("kind", "group"), across="finding", figure=figure)
            for figure, title in _GROUP_FIGURES.items()
        ]
    return found, small
