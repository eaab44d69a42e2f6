"""Diagnosis and Explanation on a terminal, as rich tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from consilium.domain.diagnosis import (
    Diagnosis,
    Explanation,
    FindingExplanation,
    FindingResult,
    Neighbour,
)
from consilium.modalities.presentation import presentations
from consilium.output.labels import (
    audit_in_words,
    display_name,
    part_in_words,
    set_in_words,
    share,
    targets_in_words,
    typicality_in_words,
)

_BAR = 20
_ANY_WIDTH = 10_000
"""Columns in which a table takes what it needs."""
_LABELS = {True: "yes", False: "no", None: "unknown"}


def diagnosis_table(diagnosis: Diagnosis) -> RenderableType:
    """The reasons to refer, one row per finding, grades and times, then what is absent, out of distribution or wrong.

    A row holds the answer in words, the probability with its interval and operating point, and the probability from
    each modality alone. What is referred is dim: a finding, or all rows of a study.
    """
    return Group(*_referral(diagnosis), _Answers(diagnosis), *_targets(diagnosis), *_notices(diagnosis))


@dataclass(frozen=True, slots=True)
class _Answers:
    """The table of the findings; where it is too wide, without the bars, then without the unimodal probabilities."""

    diagnosis: Diagnosis

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for bars, unimodal in ((True, True), (False, True)):
            table = self._table(bars=bars, unimodal=unimodal)
            if Measurement.get(console, options.update(width=_ANY_WIDTH), table).maximum <= options.max_width:
                yield table
                return
        yield self._table(bars=False, unimodal=False)

    def _table(self, *, bars: bool, unimodal: bool) -> Table:
        model = self.diagnosis.model
        table = Table(title=f"{escape(model.name)} version {escape(model.version)}", title_justify="left")
        table.add_column("finding", overflow="fold")
        table.add_column("answer", no_wrap=True)
        table.add_column("probability", justify="right", no_wrap=True)
        if bars:
            table.add_column("0" + " " * (_BAR - 2) + "1", no_wrap=True)
        table.add_column("called", overflow="fold")
        modalities = self.diagnosis.modalities if unimodal else ()
        for modality in modalities:
            table.add_column(f"{display_name(modality).lower()}\nalone", justify="right")
        for result in self.diagnosis.findings:
            alone = [f"{result.unimodal_probabilities[modality]:.2f}" for modality in modalities]
            bar = [_bar(result)] if bars else []
            table.add_row(*_answer(result), *bar, _called(result), *alone, style=_style(self.diagnosis, result))
        return table


def _style(diagnosis: Diagnosis, result: FindingResult) -> str:
    if diagnosis.refer_reasons or result.refer_reasons:
        return "dim"
    return "bold" if result.call else ""


def _answer(result: FindingResult) -> list[str]:
    low, high = result.interval
    probability = f"{result.probability:.2f} [{low:.2f}, {high:.2f}]".replace("[", r"\[")
    return [escape(result.display), set_in_words(result.prediction_set), probability]


def _called(result: FindingResult) -> str:
    return f"yes (from {result.operating_point.threshold:.2f})" if result.call else "no"


def _bar(result: FindingResult) -> Text:
    """Filled up to the probability; ▒ where the interval lies beyond it, ┃ at the operating point."""
    filled, reach = round(result.probability * _BAR), round(result.interval[1] * _BAR)
    tick = min(_BAR - 1, int(result.operating_point.threshold * _BAR))
    cells = ["█" if place < filled else "▒" if place < reach else "░" for place in range(_BAR)]
    cells[tick] = "┃"
    return Text("".join(cells))


def _targets(diagnosis: Diagnosis) -> list[Table]:
    """A row per target beside the findings; no table where there are none."""
    shown = targets_in_words(diagnosis)
    if not shown:
        return []
    table = Table(title="Grades and outlook", title_justify="left")
    for column in ("target", "answer", "probability"):
        table.add_column(column, overflow="fold")
    for target in shown:
        bars = ", ".join(f"{escape(name)} {probability:.2f}" for name, probability in target.bars)
        style = "dim" if diagnosis.refer_reasons else ""
        table.add_row(escape(target.display), f"{escape(target.answer)} ({target.detail})", bars, style=style)
    return [table]


def _referral(diagnosis: Diagnosis) -> list[Text]:
    if not diagnosis.refer_reasons:
        left = ", ".join(result.display for result in diagnosis.findings if result.refer_reasons)
        return [Text(f"assess without the model: {left}", style="red")] if left else []
    headline = Text("REFERRED: assess this study without the model", style="bold red")
    return [headline, *(Text(f"  - {reason}", style="red") for reason in diagnosis.refer_reasons)]


def _notices(diagnosis: Diagnosis) -> list[Text]:
    absent = [display_name(modality).lower() for modality in diagnosis.absent]
    lines = [f"absent: {', '.join(absent)}"] if absent else []
    lines += [
        f"{part_in_words(score.part).lower()}: {typicality_in_words(score)} "
        f"({share(score.p_value)} of calibration studies are at least as far from the training data)"
        for score in diagnosis.out_of_distribution
        if typicality_in_words(score) != "typical"
    ]
    audit = audit_in_words(diagnosis.audit.verdict)
    if audit is not None:
        lines += [audit, *(f"  - {reason}" for reason in diagnosis.audit.reasons)]
    lines += [f"warning: {warning}" for warning in diagnosis.warnings]
    return [Text(line, style="yellow") for line in lines]


def explanation_table(finding: FindingExplanation) -> RenderableType:
    """The evidence for one finding: of each modality, and of what each modality lists of its own."""
    table = Table(title=f"Why: {escape(finding.display)} (log-odds)", title_justify="left")
    for column in ("", "for", "against"):
        table.add_column(column)
    by_modality = [(display_name(modality).lower(), value) for modality, value in finding.modalities.items()]
    listed = [
        (presentation.unit, presentation.rows(finding.parts[modality]))
        for modality, presentation in presentations(finding.parts).items()
    ]
    for name, weights in (("modalities", by_modality), *listed):
        cells = _listed(weights, 1), _listed(weights, -1)
        if any(cells):
            table.add_row(name, *cells)
    return table


def _listed(weights: list[tuple[str, float]], sign: int) -> str:
    """Those of one sign, the greatest first; what rounds to 0.00 is evidence neither way."""
    chosen = sorted((w for w in weights if round(w[1], 2) * sign > 0), key=lambda w: -abs(w[1]))
    return "\n".join(f"{escape(text)} {weight:+.2f}" for text, weight in chosen)


def neighbours_table(diagnosis: Diagnosis, neighbours: Sequence[Neighbour]) -> RenderableType:
    """The training cases most similar to this one, with their labels and modalities."""
    table = Table(title="Training cases most like this one", title_justify="left")
    table.add_column("case", no_wrap=True)
    for column in ("similarity", *(escape(result.display) for result in diagnosis.findings), "modalities"):
        table.add_column(column, overflow="fold")
    for case in neighbours:
        labels = [_LABELS[case.labels[result.finding]] for result in diagnosis.findings]
        modalities = ", ".join(display_name(modality).lower() for modality in case.modalities)
        table.add_row(escape(case.pseudonym), f"{case.similarity:.2f}", *labels, modalities)
    return table


def explanation_tables(explanation: Explanation) -> RenderableType:
    """The diagnosis, one table per explained finding, and the nearest training cases where there are some."""
    parts = [diagnosis_table(explanation.diagnosis), *(explanation_table(f) for f in explanation.findings)]
    if explanation.neighbours:
        parts.append(neighbours_table(explanation.diagnosis, explanation.neighbours))
    return Group(*parts)
