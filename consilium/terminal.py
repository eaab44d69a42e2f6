"""Diagnosis and Explanation on a terminal, as rich tables."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from consilium.diagnosis import Diagnosis, Explanation, FindingExplanation, ObservationWeight
from consilium.study import Modality

_NAMES = {Modality.IMAGE: "image", Modality.TEXT: "notes", Modality.OBSERVATIONS: "values"}
_MOST_WORDS = 6
_BAR = 20


def diagnosis_table(diagnosis: Diagnosis) -> RenderableType:
    """One row per finding: probability with its operating point, call, and each modality's own opinion."""
    table = Table(
        title=f"{escape(diagnosis.model.name)} version {escape(diagnosis.model.version)}", title_justify="left"
    )
    table.add_column("finding")
    table.add_column("probability", justify="right")
    table.add_column("0" + " " * (_BAR - 2) + "1")
    table.add_column("call")
    for modality in diagnosis.modalities:
        table.add_column(f"{_NAMES[modality]} alone", justify="right")
    for result in diagnosis.findings:
        style = "bold" if result.call else ""
        opinions = [f"{result.opinions[modality]:.2f}" for modality in diagnosis.modalities]
        bar = _bar(result.probability, result.operating_point.threshold)
        call = f"yes (from {result.operating_point.threshold:.2f})" if result.call else "no"
        table.add_row(escape(result.finding.display), f"{result.probability:.2f}", bar, call, *opinions, style=style)
    absent = [name for modality, name in _NAMES.items() if modality not in diagnosis.modalities]
    lines = [Text(f"absent: {', '.join(absent)}", style="yellow")] if absent else []
    lines += [Text(f"mind: {warning}", style="yellow") for warning in diagnosis.warnings]
    return Group(table, *lines)


def _bar(probability: float, threshold: float) -> Text:
    filled, tick = round(probability * _BAR), min(_BAR - 1, int(threshold * _BAR))
    cells = ["█" if place < filled else "░" for place in range(_BAR)]
    cells[tick] = "┃"
    return Text("".join(cells))


def explanation_table(finding: FindingExplanation) -> RenderableType:
    """What spoke for one finding: modalities, the strongest words, the values."""
    table = Table(title=f"Why: {escape(finding.finding.display)} (log-odds)", title_justify="left")
    for column in ("", "for", "against"):
        table.add_column(column)
    by_modality = [(_NAMES[modality], value) for modality, value in finding.modalities.items()]
    words = sorted(((word.text, word.weight) for word in finding.words), key=lambda w: -abs(w[1]))[:_MOST_WORDS]
    values = [(_measured(observation), observation.weight) for observation in finding.observations]
    for name, weights in (("modalities", by_modality), ("words", words), ("values", values)):
        if weights:
            table.add_row(name, _listed(weights, 1), _listed(weights, -1))
    return table


def _measured(observation: ObservationWeight) -> str:
    unit = "years" if observation.unit == "a" else observation.unit
    return f"{observation.display} {observation.value} {unit}".strip()


def _listed(weights: list[tuple[str, float]], sign: int) -> str:
    chosen = sorted((w for w in weights if w[1] * sign > 0), key=lambda w: -abs(w[1]))
    return "\n".join(f"{escape(text)} {weight:+.2f}" for text, weight in chosen)


def explanation_tables(explanation: Explanation) -> RenderableType:
    """The diagnosis and one table per explained finding."""
    return Group(diagnosis_table(explanation.diagnosis), *(explanation_table(f) for f in explanation.findings))
