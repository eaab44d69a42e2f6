"""The card of pretrained encoders: what they learned from, what they can do, and what the audit found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from consilium.configuration.recipe import Recipe
from training.evaluation.comparisons import MACRO
from training.pretraining.encoder_audit import EncoderAudit
from training.pretraining.fit_encoders import FittedEncoders

_RETRIEVAL = (
    "Retrieval of a study's record of one modality by its record of another, among at most 100 studies that were not "
    "learned from; `rank` is the share of the others that come after it."
)
_HIDDEN = ("_low", "_high")


@dataclass(frozen=True, slots=True, eq=False)
class EncoderFacts:
    """What the card shows.

    Attributes
    ----------
    cohort : mapping of str to str
        Name, studies, digest.
    tables : mapping of title to DataFrame
        What was measured with labels, where there were any.
    origin : mapping of str to str
        Commit, run, version.
    """

    recipe: Recipe
    fitted: FittedEncoders
    audit: EncoderAudit
    cohort: Mapping[str, str]
    tables: Mapping[str, pd.DataFrame]
    origin: Mapping[str, str]


def encoder_card(facts: EncoderFacts) -> str:
    """The card, in Markdown."""
    parts = [
        f"# Pretrained encoders {facts.recipe.registered_name}",
        facts.recipe.description,
        "Learned without labels. They are weights to start from, and give no diagnosis.",
        "## Learned from",
        _pairs(facts.cohort),
        markdown_table(_stages(facts.fitted)),
        "## Audit",
        f"Verdict: **{facts.audit.verdict}**.",
        *(f"- {text}" for text in (*facts.audit.leaks, *facts.audit.concerns)),
        _RETRIEVAL,
        markdown_table(facts.audit.retrieval),
        "Mean cosine of the records of one study, and of records of different studies by where they were made:",
        markdown_table(facts.audit.similarity),
    ]
    for title, table in facts.tables.items():
        parts += [f"## {title}", markdown_table(means_alone(table))]
    parts += ["## Origin", _pairs(facts.origin)]
    return "\n\n".join(part for part in parts if part) + "\n"


def means_alone(table: pd.DataFrame) -> pd.DataFrame:
    """`table` without single findings, where it has their mean."""
    if "finding" not in table or not (table["finding"] == MACRO).any():
        return table
    return table[table["finding"] == MACRO].drop(columns="finding")


def markdown_table(table: pd.DataFrame) -> str:
    """`table` in Markdown; a figure with ``_low`` and ``_high`` beside it shows its interval."""
    if table.empty:
        return "Nothing was measured."
    columns = [str(name) for name in table.columns if not str(name).endswith(_HIDDEN)]
    rows = [[_cell(row, name) for name in columns] for row in table.to_dict("records")]
    heads = [name.replace("_", " ") for name in columns]
    return "\n".join(_row(cells) for cells in (heads, ["---"] * len(heads), *rows))


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(row: Mapping[Any, Any], name: str) -> str:
    value, low, high = (row.get(f"{name}{ending}") for ending in ("", *_HIDDEN))
    if value is None or value != value:  # noqa: PLR0124 - not a number
        return ""
    if not isinstance(value, float):
        return str(value)
    return f"{value:.3f} [{low:.3f}, {high:.3f}]" if low is not None and high is not None else f"{value:.3f}"


def _pairs(some: Mapping[str, str]) -> str:
    return "\n".join(f"- {name}: {value}" for name, value in some.items() if value)


def _stages(fitted: FittedEncoders) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "stage": stage.name,
            "compared": ", ".join("+".join(pair) for pair in stage.pairs),
            "studies": stage.studies,
            "epochs": stage.ended.epochs,
            "steps": stage.ended.steps,
        }
        for stage in fitted.stages
    )
