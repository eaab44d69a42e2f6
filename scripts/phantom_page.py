"""``python scripts/phantom_page.py MODEL --out docs/phantom.md``: what was measured of a model of the phantom.

The tables are those that the model's run has logged; with ``--fusions`` also those of `consilium compare-fusions`, with
``--starving`` those of `benchmarks/starving.py`, with ``--shifts`` that of `consilium shifts`, each as its ``--out``
left it. Nothing is measured here. What stands in the page before its first section is written by hand and kept.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from consilium.artifacts.artifact import load_artifact
from consilium.artifacts.model_registry import resolve
from training.evaluation.comparisons import MACRO
from training.evaluation.rows import ALL_PRESENT, AS_PRESENT, Row, RowKind
from training.runtime.tracking import download_evaluation

Line = dict[Any, Any]
Column = Callable[[Line], object]


def paragraph(text: str) -> Iterator[str]:
    yield from (" ".join(text.split()), "")


def table(lines: pd.DataFrame, columns: Mapping[str, Column]) -> Iterator[str]:
    """A Markdown table of `lines`, with a cell for each of `columns`."""
    yield "| " + " | ".join(columns) + " |"
    yield "| " + " | ".join("---" for _ in columns) + " |"
    for line in lines.to_dict("records"):
        yield "| " + " | ".join(str(cell(line)) for cell in columns.values()) + " |"
    yield ""


def number(value: float | None, digits: int = 3, *, signed: bool = False) -> str:
    if value is None or pd.isna(value):
        return "–"
    text = f"{value:{'+' if signed else ''}.{digits}f}"
    return text.replace("0.", ".", 1) if abs(value) < 1 else text


def just(name: str, digits: int = 3) -> Column:
    """The number in the column `name`."""
    return lambda line: number(line[name], digits)


def words(name: str) -> Column:
    return lambda line: str(line[name]).replace("_", " ").replace("+", " + ")


def _end(name: str, end: str) -> str:
    """Column of an interval's end; a merged one's number stands last."""
    stem, suffix = (name[:-2], name[-2:]) if name.endswith("_2") else (name, "")
    return f"{stem}_{end}{suffix}"


def interval(name: str, *, signed: bool = False) -> Column:
    """``.76 [.67, .85]``."""

    def cell(line: Line) -> str:
        if pd.isna(line[name]):
            return "–"
        low, high = (line.get(_end(name, end), line.get(end)) for end in ("low", "high"))
        value, low, high = (number(x, signed=signed) for x in (line[name], low, high))
        return f"{value} [{low}, {high}]"

    return cell


def performance(tables: Mapping[str, pd.DataFrame]) -> Iterator[str]:
    yield from ("## What it reaches of what is possible", "")
    yield from paragraph("""
        Means over the four findings, 95 % intervals by bootstrap over patients. A share is (AUROC − .5) / (possible −
        .5), or the same of the information about the finding; *possible* is the oracle's own, on the same studies.""")
    shares, metrics = tables["oracle_shares"], tables["metrics"]
    measured = metrics[["row", "finding", "ece", "ece_low", "ece_high"]]
    lines = shares.merge(measured, on=["row", "finding"])
    reached: dict[str, Column] = {
        "AUROC": just("auroc"),
        "possible": just("oracle_auroc"),
        "share": interval("auroc_share"),
        "share of information": interval("information_share"),
        "ECE": interval("ece"),
    }
    rows = lines[(lines["finding"] == MACRO) & lines["row"].map(lambda row: row.kind is RowKind.FUSED)]
    rows = rows.assign(row=rows["row"].map(lambda row: row.name).replace(ALL_PRESENT, "what each study has"))
    yield from table(rows, {"modalities": words("row"), "studies": lambda line: line["n"]} | reached)
    own = lines[(lines["row"] == AS_PRESENT) & (lines["finding"] != MACRO)]
    yield from table(own, {"finding": words("finding"), "with it": lambda line: line["positives"]} | reached)


def coverage(tables: Mapping[str, pd.DataFrame]) -> Iterator[str]:
    yield from ("## Prediction sets", "")
    yield from paragraph("""
        Share of the studies of each class whose set holds the truth, beside the band in which 95 % of all test sets of
        this size would lie.""")
    every = tables["coverage"]
    columns: dict[str, Column] = {
        "finding": words("finding"),
        "class": words("class"),
        "studies": lambda line: line["n"],
        "covered": just("coverage"),
        "band": lambda line: f"{number(line['band_low'])} to {number(line['band_high'])}",
        "within": lambda line: "yes" if line["in_band"] else "no",
        "both": just("both"),
        "neither": just("empty"),
    }
    yield from table(every[every["subset"] == ALL_PRESENT], columns)
    banded = every["in_band"].dropna().astype(bool)
    yield from paragraph(f"Of all findings, classes and subsets, {banded.sum()} of {len(banded)} lie within.")


def referral(tables: Mapping[str, pd.DataFrame]) -> Iterator[str]:
    yield from ("## Referral", "")
    yield from paragraph("""
        Wrong calls at the operating points, where each part of the rule refers what it would: *both* single findings,
        the others whole studies. *Silent* is the share of studies of which nothing is answered.
    """)
    policies = tables["selective"]
    columns: dict[str, Column] = {
        "referred by": words("policy"),
        "answered": just("answered"),
        "silent": just("silent"),
        "errors of the answered": interval("error"),
        "errors of the referred": just("error_referred"),
        "sensitivity": just("sensitivity"),
        "specificity": just("specificity"),
    }
    yield from table(policies[policies["finding"] == MACRO], columns)


def out_of_distribution(tables: Mapping[str, pd.DataFrame]) -> Iterator[str]:
    yield from ("## Out-of-distribution inputs", "")
    yield from paragraph("""
        Test studies against the same ones made unusual. *Flagged* is the share below the refer rule's p-value, *nothing
        left* that of which nothing could be read, which counts as noticed. Far kinds must be noticed; near ones are
        reported.""")
    columns: dict[str, Column] = {
        "kind": words("kind"),
        "distance": words("distance"),
        "score of": words("part"),
        "studies": lambda line: line["n"],
        "nothing left": just("absent", 2),
        "AUROC": interval("auroc"),
        "FPR95": just("fpr95", 2),
        "flagged": just("flagged", 2),
    }
    yield from table(tables["out_of_distribution"].sort_values(["distance", "kind", "part"], kind="stable"), columns)


_MEASURED = {
    "image": ("twin_correlation", "twin_sign", "mass_gain", "pointing_gain", "deletion", "insertion"),
    "words": ("twin_correlation", "twin_sign", "auprc", "deletion", "insertion"),
    "values": ("twin_correlation", "twin_sign", "auprc", "deletion", "insertion"),
    "modalities": ("oracle_correlation", "oracle_sign"),
}


def faithfulness(tables: Mapping[str, pd.DataFrame], chosen: Mapping[str, Mapping[str, str]]) -> Iterator[str]:
    yield from ("## Explanations", "")
    defaults = "; ".join(f"{level}: {', '.join(methods.values())}" for level, methods in chosen.items())
    yield from paragraph(
        f"""
        Every method against the truth. *Twin*: counterfactual twins, what was attributed to a piece of evidence against
        what the model's log-odds lost when it was made neutral. *Mass gain*, *pointing gain*: the map where the
        evidence lies, above the better of two maps that have not seen the study (the whole image, its middle). *AUPRC*:
        decisive words or values among the others. *Sanity*: agreement with an untrained model's explanation; above .5 a
        method cannot be a default. Chosen by mean rank: {defaults}.""".replace("_", " ")
    )
    every = tables["faithfulness"]
    for part, metrics in _MEASURED.items():
        own = every[(every["part"] == part) & (every["finding"] == MACRO)]
        shown = own.pivot_table(index="method", columns="metric", values="value")
        names = [name for name in (*metrics, "stability", "sanity") if name in shown]
        lines = shown.sort_values(names[0], ascending=False).reset_index()
        columns = {part: words("method")} | {name.replace("_", " "): just(name, 2) for name in names}
        yield from table(lines, columns)
    default = chosen.get("thorough", {}).get("image")
    yield from paragraph(f"The chosen map ({default}) above the better baseline, finding by finding:".replace("_", " "))
    gains = every[(every["method"] == default) & every["metric"].isin(["mass_gain", "pointing_gain"])]
    columns = {"finding": words("finding"), "metric": words("metric"), "gain": interval("value")}
    yield from table(gains, columns | {"images": lambda line: line["n"]})


def fusions(folder: Path) -> Iterator[str]:
    yield from ("## Fusions", "")
    shares, costs, away = (pd.read_csv(folder / f"{name}.csv") for name in ("shares", "contenders", "explaining_away"))
    for title, column in (("AUROC", "auroc_share"), ("information", "information_share")):
        yield from paragraph(f"Share of the possible {title}, mean over findings and seeds:")
        shown = shares[shares["finding"] == MACRO].pivot_table(index="contender", columns="subset", values=column)
        subsets = sorted(shown.columns, key=lambda name: (name != ALL_PRESENT, name.count("+"), name))
        lines = shown.reset_index().merge(costs[["contender", "seconds", "parameters"]], on="contender")
        lines = lines.sort_values(ALL_PRESENT, ascending=False, na_position="last")
        columns: dict[str, Column] = {"contender": words("contender")}
        columns |= {name.replace("_", " ").replace("+", " + "): just(name) for name in subsets}
        columns |= {"seconds": just("seconds", 0), "parameters": lambda line: f"{line['parameters']:,}"}
        yield from table(lines, columns)
    yield from paragraph("""
        Explaining away: on studies with a hidden confounder that have all three modalities, NLL less that of the sum of
        log-odds, and less that of the product of experts, which takes the prior out once (below 0 is better).""")
    own = away[
        (away["finding"] == MACRO)
        & (away["studies"] == "with_confounder")
        & away["subset"].str.contains("+", regex=False)
    ]
    first = own[own["against"] == "rule/sum_of_log_odds"]
    second = own[own["against"] == "rule/product_of_experts"]
    both = first.merge(second, on="contender", how="outer", suffixes=("", "_2")).sort_values("nll")
    columns = {"contender": words("contender"), "studies": just("n", 0), "NLL": just("nll")}
    columns |= {"less the sum's": interval("nll_difference", signed=True)}
    columns |= {"less the product's": interval("nll_difference_2", signed=True)}
    yield from table(both[both["nll"].notna()], columns)


def starving(folder: Path) -> Iterator[str]:
    yield from ("## Against the strong modality that starves the weak", "")
    shares, differences = (pd.read_csv(folder / f"{name}.csv") for name in ("shares", "differences"))
    macro = shares[shares["finding"] == MACRO]
    yield from paragraph(f"""
        One recipe, trained {macro["seeds"].max()} times each with more and more of what should help; the ensemble
        is the mean probability of the trainings with own heads. Means over findings and seeds. *Less plain's* is the
        NLL on what each study has, less that of the plain training (below 0 is better).""")
    bought = differences[(differences["finding"] == MACRO) & (differences["subset"] == ALL_PRESENT)]
    spread = macro[macro["subset"] == ALL_PRESENT][["contender", "information_share_sd"]]
    for title, called in (("auroc_share", "AUROC"), ("information_share", "information")):
        yield from paragraph(f"Share of the possible {called}, by modalities:")
        shown = macro.pivot_table(index="contender", columns="subset", values=title, sort=False)
        columns: dict[str, Column] = {"trained with": words("contender")}
        columns |= {name.replace("_", " ").replace("+", " + "): just(name) for name in shown.columns}
        yield from table(shown.reset_index(), columns)
    yield from paragraph("What each bought:")
    lines = bought.merge(spread, on="contender")
    columns = {
        "trained with": words("contender"),
        "less plain's": interval("nll_difference", signed=True),
        "AUROC more": interval("auroc_difference", signed=True),
        "sd of its share of information between seeds": just("information_share_sd"),
    }
    yield from table(lines, columns)


def shifted(file: Path) -> Iterator[str]:
    yield from ("## Away from home", "")
    yield from paragraph("""
        The same model on fresh phantoms that depart from its own in one way each, every one with its own best possible
        answer; means over findings. *None* departs in nothing. What breaks first stands out in the last columns.""")
    lines = pd.read_csv(file)
    columns: dict[str, Column] = {"shift": words("shift"), "studies": lambda line: line["n"]}
    figures = [name for name in lines.columns if f"{name}_low" in lines.columns]
    columns |= {name.replace("_", " "): interval(name) for name in figures}
    yield from table(lines, columns)


def read_tables(file: Path) -> dict[str, pd.DataFrame]:
    found = json.loads(file.read_text(encoding="utf-8"))["tables"]
    tables = {name: pd.DataFrame(lines) for name, lines in found.items()}
    return {name: t.assign(row=t["row"].map(Row.parse)) if "row" in t else t for name, t in tables.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    for name in ("fusions", "starving", "shifts"):
        parser.add_argument(f"--{name}", type=Path)
    parser.add_argument("--evaluated", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    details = load_artifact(resolve(options.model).folder).details
    tables = read_tables(download_evaluation(details["run_id"], "evaluation.json"))
    if options.evaluated is not None:
        tables |= read_tables(options.evaluated / "evaluation.json")
    lines = [options.out.read_text(encoding="utf-8").split("\n## ", 1)[0].strip(), ""]
    lines += [*performance(tables), *coverage(tables), *referral(tables), *out_of_distribution(tables)]
    lines += faithfulness(tables, details["explanations"])
    for section, given in ((fusions, options.fusions), (starving, options.starving), (shifted, options.shifts)):
        lines += section(given) if given is not None else ()
    options.out.write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
