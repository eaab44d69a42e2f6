"""The model card: what a model is for, how it was made, what it reaches, where it fails (Mitchell et al., FAT* 2019).

Markdown for a repository, one self-contained HTML page for a reader. Everything in it comes from the run that made the
model; nothing is written by hand but the recipe's description and the sentences below.
No patient and no study is named.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from consilium.artifacts.manifest import CARD_FILES
from consilium.configuration.recipe import Recipe
from consilium.domain.diagnosis import AuditVerdict
from consilium.domain.variables import Variable
from consilium.modalities.weight_source import WeightSource
from consilium.output.labels import audit_in_words, display_name
from training.card.card_tables import (
    calibration_tables,
    doubt_tables,
    group_tables,
    parameter_tables,
    performance_tables,
    target_tables,
    variable_table,
)
from training.card.card_writing import CardTable, Section, Words, frame_table, markdown, page, picture, write_cell
from training.evaluation.comparisons import MACRO
from training.evaluation.results import Evaluation
from training.evaluation.rows import AS_PRESENT
from training.evaluation.subgroups import LEAST_OF_EACH_CLASS
from training.figures.metric_figures import reliability_figure, roc_figure
from training.figures.selective_figures import decision_figure, risk_coverage_figure
from training.training_side import training_side

_SOUND = "sound"

_AUDIT_TITLES = {
    "shortcuts": "What tells a finding without looking at the patient",
    "sources": "Sources left out of training",
    "duplicates": "Records that stand in the cohort more than once",
    "label_words": "Words that give a label away",
    "support": "Studies of each class",
    "subgroups": "Studies of each group",
    "missingness": "What is missing, by label",
}


@dataclass(frozen=True, slots=True, eq=False)
class Facts:
    """What the card is made of.

    Attributes
    ----------
    evaluation : Evaluation
        Of its tables, the card shows also those that not every run has: ``out_of_distribution``, ``faithfulness``,
        those of `training.evaluation.selective`, ``subgroups``, ``gaps`` and ``shifts``.
    cohort : dict of str to str
        What the model learned from: name, task, digest, number of studies and patients.
    studies : dict of str to int
        Studies of each part: train, validation, calibration, test, or out of fold.
    calibration : dict of str to str
        How probabilities are made.
    origin : dict of str to str
        Commit, run, versions: what it takes to make it again.
    audit_tables : dict of str to DataFrame
        Tables of the audit's report.
    variables : sequence of Variable
        What the model reads of the observations.
    weights : mapping of modality to sequence of WeightSource
        Where the pretrained weights come from that it began from.
    parameters : dict
        How many weights were ``trained`` of ``all``, by modality, and of the fusion and the heads.
    """

    recipe: Recipe
    evaluation: Evaluation
    audit: AuditVerdict
    cohort: Mapping[str, str]
    studies: Mapping[str, int]
    calibration: Mapping[str, str]
    origin: Mapping[str, str]
    audit_tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    variables: Sequence[Variable] = ()
    weights: Mapping[str, Sequence[WeightSource]] = field(default_factory=dict)
    parameters: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    @property
    def words(self) -> Words:
        return Words(self.evaluation.findings)

    @property
    def tables(self) -> Mapping[str, pd.DataFrame]:
        """The evaluation's tables that have a row."""
        return {name: table for name, table in self.evaluation.tables.items() if len(table)}


def card(facts: Facts) -> dict[str, str]:
    """The card's files by name, see `consilium.artifacts.artifact.CARD_FILES`; the same facts give the same files."""
    sections = [section for make in _SECTIONS if not (section := make(facts)).empty]
    title = f"Model card: {facts.recipe.registered_name}"
    sentence = audit_in_words(facts.audit.verdict) or "The audit of the cohort behind this model found it sound"
    banner = f"{sentence}. Not a certified medical device."
    files = {
        "card.md": markdown(title, banner, sections),
        "card.html": page(title, banner, sections, warned=facts.audit.verdict != _SOUND),
    }
    assert set(files) == set(CARD_FILES)
    return files


# --- sections --------------------------------------------------------------------------------------------------------


def _purpose(facts: Facts) -> Section:
    recipe = facts.recipe
    findings = ", ".join(finding.display for finding in facts.evaluation.findings)
    reads = ", ".join(display_name(modality).lower() for modality in recipe.modalities)
    sides = {name: training_side(name) for name in recipe.modalities}
    narrowed = [side.scope_in_words(recipe.modalities[name]) for name, side in sides.items()]
    kinds = "".join(f"{words}; " for words in narrowed if words)
    before, after = recipe.inputs.before_hours, recipe.inputs.after_hours
    window = f"from {before:g} hours before the reference time " + (
        f"to {after:g} hours after it" if after else "until it"
    )
    return Section(
        "What it is for",
        (
            recipe.description,
            f"A second opinion for radiologists. Findings: {findings}.{_beside(facts)}",
            f"It reads: {reads}; {kinds}nothing but what was recorded {window}.",
            *(sentence for side in sides.values() for sentence in side.card_sentences(recipe)),
            (
                "It must not decide alone, and a study that it refers must be assessed without it. It was not tried on "
                "patients unlike its cohort."
            ),
        ),
    )


def _beside(facts: Facts) -> str:
    targets = ", ".join(target.display for target in facts.evaluation.findings.targets)
    return f" Beside them: {targets}." if targets else ""


def _values(facts: Facts) -> Section:
    """Which laboratory values, vital signs and other variables the model reads."""
    if not facts.variables:
        return Section("Which values it reads")
    sections = facts.recipe.modalities
    history = tuple(filter(None, (training_side(name).variables_in_words(sections[name]) for name in sections)))
    return Section("Which values it reads", history, tables=(variable_table(facts.variables),))


def _summary(facts: Facts) -> Section:
    evaluation, words = facts.evaluation, facts.words
    own = _own_lines(evaluation)
    mean, each = own[MACRO], [own[name] for name in evaluation.findings.names]
    patients = len(set(evaluation.patient_ids.tolist()))
    evaluated = f"{len(evaluation.study_ids):,} studies of {patients:,} patients"
    points = [
        f"Evaluated on {evaluated} that it had not learned from: mean AUROC {write_cell(mean, 'auroc', words)}.",
    ]
    known = [line for line in each if not math.isnan(line["auroc"])]
    if len(known) > 1:
        weakest = min(known, key=lambda line: line["auroc"])
        points.append(
            f"Weakest finding: {write_cell(weakest, 'finding', words)}, AUROC {write_cell(weakest, 'auroc', words)}."
        )
    if "oracle_shares" in facts.tables:
        shares = facts.tables["oracle_shares"]
        [line] = shares[(shares["row"] == AS_PRESENT) & (shares["finding"] == MACRO)].to_dict("records")
        points.append(
            f"Of what the best possible answer reaches it has {write_cell(line, 'auroc_share', words)} of the AUROC "
            f"above chance and {write_cell(line, 'information_share', words)} of the information."
        )
    if "gaps" in facts.tables:
        points.append(_widest_gap(facts))
    points += [f"A leak: {leak}." for leak in evaluation.leaks]
    return Section("In short", points=tuple(points))


def _widest_gap(facts: Facts) -> str:
    gaps = facts.tables["gaps"]
    line: dict[Any, Any] = gaps.iloc[int(gaps["gap"].to_numpy(float).argmax())].to_dict()
    name = {column: write_cell(line, column, facts.words) for column in line}
    return (
        f"Widest gap between two groups: the {name['metric']} for {name['finding']} is {name['gap']} lower for "
        f"{name['kind']} {name['worst']} than for {name['kind']} {name['best']}."
    )


def _cohort(facts: Facts) -> Section:
    parts = _pairs({name: f"{count:,}" for name, count in facts.studies.items()})
    return Section(
        "What it learned from",
        tables=(
            CardTable("Cohort", ("what", "which"), _pairs(facts.cohort)),
            CardTable("Studies of each part", ("part", "studies"), parts),
            *parameter_tables(facts.parameters),
        ),
    )


def _weights(facts: Facts) -> Section:
    """Where pretrained weights come from, with digest and licence."""
    rows = tuple(
        (display_name(modality), source.architecture, source.source, source.licence, source.sha256)
        for modality, sources in facts.weights.items()
        for source in sources
    )
    title = "Which weights it began from"
    if not rows:
        return Section(title)
    text = "What these were trained on may have been of other patients, devices and places than this cohort."
    columns = ("modality", "architecture", "source", "licence", "SHA-256")
    return Section(title, (text,), tables=(CardTable("Pretrained weights", columns, rows),))


def _audit(facts: Facts) -> Section:
    verdict = f"The audit looks for what is too good to be true. Its verdict: {facts.audit.verdict}."
    shown = tuple(
        frame_table(_AUDIT_TITLES.get(name, name.replace("_", " ").capitalize()), table, facts.words)
        for name, table in facts.audit_tables.items()
        if len(table)
    )
    return Section("Can the cohort be trusted", (verdict,), facts.audit.reasons, shown)


def _performance(facts: Facts) -> Section:
    text = (
        "In brackets: 95 % intervals by bootstrap over patients. AUROC: the chance that a study with the finding is "
        "ranked above one without it, 0.5 by guessing. NLL: the price of a probability, less is better."
    )
    tables = tuple(performance_tables(facts.tables, facts.words))
    return Section("What it reaches", (text,), (), tables, (picture("ROC curves", roc_figure(facts.evaluation)),))


def _calibration(facts: Facts) -> Section:
    made = CardTable("How probabilities are made", ("what", "which"), _pairs(facts.calibration))
    text = (
        "Calibration error: the mean distance of predicted from observed frequency, in ten groups of equal size. The "
        "band of a coverage is where 95 % of sound ones lie."
    )
    drawn = picture("Predicted against observed frequency", reliability_figure(facts.evaluation))
    tables = (made, *calibration_tables(facts.tables, facts.words))
    return Section("How far its probabilities can be trusted", (text,), (), tables, (drawn,))


def _targets(facts: Facts) -> Section:
    """What it answers beside the findings."""
    title = "Grades and times beside the findings"
    if "targets" not in facts.tables:
        return Section(title)
    text = (
        "Concordance: of two studies whose order is known, the chance that the model orders them so; 0.5 by guessing. "
        "Brier score: the mean squared error over all grades or up to the last horizon, less is better. Studies lost "
        "before a horizon count there through those like them."
    )
    return Section(title, (text,), (), tuple(target_tables(facts.tables, facts.words)))


def _doubt(facts: Facts) -> Section:
    title = "When it does not know"
    tables = tuple(doubt_tables(facts.tables, facts.words))
    if not tables:
        return Section(title)
    drawn, findings, found = [], facts.evaluation.findings, dict(facts.tables)
    if {"risk_coverage", "aurc", "selective"} <= set(found):
        drawn.append(picture("Errors against the share answered", risk_coverage_figure(findings, found)))
    if "decision_curve" in found:
        drawn.append(picture("Net benefit", decision_figure(findings, found["decision_curve"])))
    text = (
        "Inputs unlike the training data, and what referring studies to a human gains. Net benefit: true positives "
        "less false positives at the rate of exchange that the threshold means."
    )
    return Section(title, (text,), (), tables, tuple(drawn))


def _groups(facts: Facts) -> Section:
    title = "Whom it serves worse"
    if "subgroups" not in facts.tables:
        return Section(title)
    tables, small = group_tables(facts.tables, facts.words)
    text = [
        "The widest of many gaps is wide by chance alone: the intervals of both groups say whether to believe it.",
        f"A group needs {LEAST_OF_EACH_CLASS} studies with the finding and as many without it to be evaluated.",
    ]
    if small:
        text.append(f"Groups that are too small for every finding and not listed: {small}.")
    return Section(title, tuple(text), (), tuple(tables))


def _limits(facts: Facts) -> Section:
    own = _own_lines(facts.evaluation)
    limits = [_precision(own[finding.name], finding.display) for finding in facts.evaluation.findings]
    missing = {
        "out_of_distribution": "Whether it notices inputs out of distribution was not measured.",
        "faithfulness": "Whether its explanations are faithful was not measured.",
        "subgroups": "Whether it serves some patients worse was not measured.",
        "coverage": "Whether its prediction sets hold the truth as often as they say was not measured.",
    }
    limits += [sentence for name, sentence in missing.items() if name not in facts.tables]
    if facts.recipe.evaluation.protocol != "split":
        limits.append("The figures are those of the folds' models; the model itself has learned from every study.")
    if facts.audit.verdict != _SOUND:
        limits.append(f"The cohort is {facts.audit.verdict}: read what the audit says before any figure is believed.")
    return Section("Limits", points=tuple(limits))


def _precision(line: Mapping[str, Any], display: str) -> str:
    counted = f"{display}: {line['positives']:,} of {line['n']:,} studies have it"
    half = (line["auroc_high"] - line["auroc_low"]) / 2
    if math.isnan(half):
        return f"{counted}, too few for an interval of its AUROC."
    return f"{counted}; its AUROC is known to within {half:.2f}."


def _origin(facts: Facts) -> Section:
    return Section("How to make it again", tables=(CardTable("Origin", ("what", "which"), _pairs(facts.origin)),))


def _table_section(name: str, heading: str, title: str, text: str) -> Callable[[Facts], Section]:
    """A section of one of the evaluation's tables, where it is there."""

    def section(facts: Facts) -> Section:
        if name not in facts.tables:
            return Section(title)
        return Section(title, (text,), (), (frame_table(heading, facts.tables[name], facts.words),))

    return section


def _own_lines(evaluation: Evaluation) -> dict[str, dict[Any, Any]]:
    """By finding, what was measured of the model's answers from all that is present."""
    metrics = evaluation.tables["metrics"]
    return {line["finding"]: line for line in metrics[metrics["row"] == AS_PRESENT].to_dict("records")}


def _pairs(facts: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple((name.replace("_", " "), value) for name, value in facts.items() if value)


_SECTIONS: tuple[Callable[[Facts], Section], ...] = (
    _purpose,
    _values,
    _summary,
    _cohort,
    _weights,
    _audit,
    _performance,
    _calibration,
    _targets,
    _doubt,
    _table_section(
        "faithfulness",
        "Methods",
        "Whether its explanations are faithful",
        "Every method against the truth that the cohort knows, or against the model itself.",
    ),
    _groups,
    _table_section(
        "shifts",
        "Shifts",
        "What breaks first",
        "The same model on cohorts that depart from its own in one way each.",
    ),
    _limits,
    _origin,
)
