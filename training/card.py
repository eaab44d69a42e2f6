"""The model card: what a model is for, how it was made, what it reaches, where it fails (Mitchell et al., FAT* 2019).

Markdown for a repository, one self-contained HTML page for a reader. Everything in it comes from the run that made the
model; nothing is written by hand but the recipe's description and the sentences below.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure

from consilium.artifact import CARD_FILES
from consilium.diagnosis import AuditVerdict
from consilium.recipe import Recipe
from training.comparisons import MACRO
from training.evaluation import AS_PRESENT, Evaluation, row_title
from training.figures import reliability_figure, roc_figure

_MOST_ROWS = 60
"""Of a table on the card; the whole one is in the run."""

Cell = str


@dataclass(frozen=True, slots=True)
class CardTable:
    """A table of the card, its cells already written out."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


@dataclass(frozen=True, slots=True)
class Section:
    """One part of the card."""

    title: str
    text: tuple[str, ...] = ()
    tables: tuple[CardTable, ...] = ()
    figures: tuple[tuple[str, str], ...] = ()
    """Caption and PNG as base64."""


@dataclass(frozen=True, slots=True, eq=False)
class Facts:
    """What the card is made of.

    Attributes
    ----------
    cohort : dict of str to str
        What the model learned from: name, task, digest, number of studies and patients.
    studies : dict of str to int
        Studies of each part: train, validation, calibration, test, or out of fold.
    calibration : dict of str to str
        How probabilities are made.
    origin : dict of str to str
        Commit, run, versions: what it takes to make it again.
    """

    recipe: Recipe
    evaluation: Evaluation
    audit: AuditVerdict
    cohort: Mapping[str, str]
    studies: Mapping[str, int]
    calibration: Mapping[str, str]
    origin: Mapping[str, str]
    audit_tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)


def card(facts: Facts) -> dict[str, str]:
    """The card's files by name, see `consilium.artifact.CARD_FILES`."""
    sections = [make(facts) for make in _SECTIONS]
    sections = [section for section in sections if section.text or section.tables or section.figures]
    title = facts.recipe.registered_name
    files = {"card.md": _markdown(title, sections), "card.html": _html(title, facts, sections)}
    assert set(files) == set(CARD_FILES)
    return files


# --- sections --------------------------------------------------------------------------------------------------------


def _purpose(facts: Facts) -> Section:
    recipe = facts.recipe
    reads = ", ".join(modality.value for modality in recipe.modalities)
    kinds = ", ".join(kind.value for kind in recipe.inputs.note_kinds)
    findings = ", ".join(finding.display for finding in facts.evaluation.findings)
    window = f"{recipe.inputs.before_hours:g} hours before to {recipe.inputs.after_hours:g} hours after the image"
    return Section(
        "What it is for",
        (
            recipe.description,
            (
                f"A second opinion for radiologists on: {findings}. It reads {reads}; of the notes {kinds}; of "
                f"everything what was recorded from {window}."
            ),
            (
                "Decision support under development, no certified medical device. It must not decide alone, it was "
                "not tried on patients unlike its cohort, and a study that it refers must be judged without it."
            ),
        ),
    )


def _cohort(facts: Facts) -> Section:
    what = [(name, value) for name, value in facts.cohort.items() if value]
    parts = [(name.replace("_", " "), str(count)) for name, count in facts.studies.items()]
    return Section(
        "What it learned from",
        tables=(
            CardTable("Cohort", ("fact", "value"), tuple(what)),
            CardTable("Studies, split by patient", ("part", "studies"), tuple(parts)),
        ),
    )


def _audit(facts: Facts) -> Section:
    verdict = f"The audit of the cohort says: {facts.audit.verdict}."
    shown = tuple(_frame_table(name.replace("_", " "), table) for name, table in facts.audit_tables.items())
    return Section("Can the cohort be trusted", (verdict, *facts.audit.reasons), shown)


def _performance(facts: Facts) -> Section:
    evaluation = facts.evaluation
    metrics = evaluation.tables["metrics"]
    answers = metrics[(metrics["finding"] == MACRO) | (len(evaluation.findings) == 1)].copy()
    answers["row"] = [
        row_title(row) if not row.startswith("oracle/") else f"possible, {row[7:]}" for row in answers["row"]
    ]
    own = metrics[metrics["row"] == AS_PRESENT]
    tables = [
        _frame_table(
            "Every way of answering, mean over findings", answers, ("row", "n", "auroc", "auprc", "nll", "ece")
        ),
        _frame_table(
            "Each finding, from what each study has",
            own,
            ("finding", "n", "positives", "auroc", "sensitivity", "specificity", "precision", "ece"),
        ),
    ]
    for name, title in (
        ("comparisons", "Paired differences on the same studies"),
        ("oracle_shares", "Share of what is possible"),
    ):
        if name in evaluation.tables:
            tables.append(_frame_table(title, evaluation.tables[name]))
    text = (
        "Judged on studies of patients that neither training nor calibration has seen. Intervals are 95 %, by "
        "bootstrap over patients."
    )
    return Section("What it reaches", (text,), tuple(tables), (("ROC curves", _png(roc_figure(evaluation))),))


def _calibration(facts: Facts) -> Section:
    evaluation = facts.evaluation
    metrics = evaluation.tables["metrics"]
    heard = metrics[metrics["row"].str.startswith("fused/")].copy()
    heard["row"] = [row_title(row) for row in heard["row"]]
    tables = [
        CardTable("How probabilities are made", ("part", "way"), tuple(facts.calibration.items())),
        _frame_table("Calibration error by modality subset", heard, ("row", "finding", "n", "ece")),
    ]
    if "coverage" in evaluation.tables:
        tables.append(_frame_table("Coverage of the prediction sets", evaluation.tables["coverage"]))
    reliability = ("Predicted against observed frequency", _png(reliability_figure(evaluation)))
    return Section("How sure it is", tables=tuple(tables), figures=(reliability,))


def _named_tables(title: str, text: str, names: Mapping[str, str]) -> Callable[[Facts], Section]:
    """A section of those of the evaluation's tables that are there."""

    def section(facts: Facts) -> Section:
        found = facts.evaluation.tables
        tables = tuple(
            _frame_table(heading, found[name]) for name, heading in names.items() if name in found and len(found[name])
        )
        return Section(title, (text,), tables) if tables else Section(title)

    return section


def _limits(facts: Facts) -> Section:
    evaluation, recipe = facts.evaluation, facts.recipe
    own = evaluation.tables["metrics"]
    own = own[(own["row"] == AS_PRESENT) & (own["finding"] != MACRO)]
    limits = [
        f"{line['finding']}: {line['positives']} positive studies of {line['n']}, so its AUROC is known to within "
        f"{(line['auroc_high'] - line['auroc_low']) / 2:.2f}."
        for line in own.to_dict("records")
    ]
    missing = {
        "novelty": "Whether it notices strange inputs was not measured.",
        "faithfulness": "Whether its explanations are faithful was not measured.",
        "subgroups": "Figures by subgroup were not measured.",
    }
    limits += [sentence for name, sentence in missing.items() if name not in evaluation.tables]
    if recipe.evaluation.protocol == "cross_validation":
        limits.append("The figures are those of the folds' models; the model itself has learned from every study.")
    if facts.audit.verdict != "sound":
        limits.append(f"The cohort is {facts.audit.verdict}: see above before any figure is believed.")
    return Section("Limits", tuple(limits))


def _origin(facts: Facts) -> Section:
    lines = tuple((name, value) for name, value in facts.origin.items() if value)
    return Section("How to make it again", tables=(CardTable("Origin", ("what", "which"), lines),))


_SECTIONS: tuple[Callable[[Facts], Section], ...] = (
    _purpose,
    _cohort,
    _audit,
    _performance,
    _calibration,
    _named_tables(
        "When it does not know",
        "Inputs unlike the training data, and what is gained by referring studies to a human.",
        {
            "novelty": "Strange inputs noticed",
            "selective": "Errors among the studies that it answers",
            "net_benefit": "Net benefit",
        },
    ),
    _named_tables(
        "Whether its explanations are faithful",
        "Every method against the truth that the cohort knows, or against the model itself.",
        {"faithfulness": "Methods"},
    ),
    _named_tables(
        "Whom it serves worse",
        "Groups with fewer than ten studies of either class are counted and not judged.",
        {"gaps": "Widest gap between two groups", "subgroups": "Figures by group"},
    ),
    _limits,
    _origin,
)


# --- writing ---------------------------------------------------------------------------------------------------------


def _frame_table(title: str, frame: pd.DataFrame, columns: Sequence[str] | None = None) -> CardTable:
    """`frame` with every figure's interval beside it, cut off where it is long."""
    names = [str(name) for name in frame.columns if not str(name).endswith(("_low", "_high"))]
    shown = [name for name in columns or names if name in names]
    lines = frame.head(_MOST_ROWS).to_dict("records")
    rows = tuple(tuple(_cell(line, name) for name in shown) for line in lines)
    if len(frame) > _MOST_ROWS:
        title += f" (the first {_MOST_ROWS} of {len(frame)} rows)"
    return CardTable(title, tuple(name.replace("_", " ") for name in shown), rows)


def _cell(line: Mapping[Any, Any], name: str) -> Cell:
    value, low, high = (line.get(f"{name}{end}") for end in ("", "_low", "_high"))
    if not isinstance(value, float):
        return "" if value is None else str(value)
    if math.isnan(value):
        return "–"
    if isinstance(low, float) and isinstance(high, float) and not math.isnan(low):
        return f"{value:.3f} [{low:.3f}, {high:.3f}]"
    return f"{value:.3f}" if abs(value) < 1000 else f"{value:.4g}"


def _png(figure: Figure) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return base64.b64encode(buffer.getvalue()).decode()


def _markdown(title: str, sections: Sequence[Section]) -> str:
    parts = [f"# Model card: {title}"]
    for section in sections:
        parts.append(f"## {section.title}")
        parts += section.text
        for table in section.tables:
            parts.append(f"**{table.title}**")
            lines = [_pipe(table.columns), _pipe(["---"] * len(table.columns)), *(_pipe(row) for row in table.rows)]
            parts.append("\n".join(lines))
    return "\n\n".join(part for part in parts if part) + "\n"


def _pipe(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


def _html(title: str, facts: Facts, sections: Sequence[Section]) -> str:
    environment = Environment(
        loader=PackageLoader("training"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("card.html.j2").render(title=title, verdict=facts.audit.verdict, sections=sections)
