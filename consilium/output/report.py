"""Diagnosis + Explanation → one HTML page that needs nothing but itself.

The page is for the radiologist: the answer, how sure it is, what is evidence for it in each modality, and when the
model should not be relied on. Each modality brings the card that shows its own evidence. No script or picture is
fetched; everything is escaped; no colour alone carries meaning.
"""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
from jinja2 import ChoiceLoader, Environment, FunctionLoader, PackageLoader, StrictUndefined

from consilium.domain.diagnosis import (
    Diagnosis,
    Explanation,
    FindingExplanation,
    FindingResult,
    Neighbour,
    OutOfDistributionScore,
)
from consilium.domain.study import Study
from consilium.modalities.presentation import AGAINST, FOR, presentations
from consilium.modalities.registry import modality_names
from consilium.output.labels import (
    audit_in_words,
    display_name,
    part_in_words,
    percent,
    set_in_words,
    share,
    targets_in_words,
    typicality_in_words,
)

_RAREST = 1e-3
"""P-value at which the strip of typicality ends."""

Card = Mapping[str, Any]


def report_html(study: Study, explanation: Explanation) -> str:
    """The page for `explanation` of `study`.

    Parameters
    ----------
    study : Study
        The study as it was given to `Diagnostician.explain`: its records are shown from it.
    explanation : Explanation
        One tab per explained finding.
    """
    diagnosis = explanation.diagnosis
    environment = _environment()
    return environment.get_template("report.html.j2").render(
        diagnosis=diagnosis,
        patient=study.patient,
        reference_time=study.reference_time,
        rows=[_row(result) for result in diagnosis.findings],
        targets=targets_in_words(diagnosis),
        names={modality: display_name(modality) for modality in diagnosis.modalities},
        absent=[display_name(modality) for modality in diagnosis.absent],
        audit=audit_in_words(diagnosis.audit.verdict),
        parts=[_part(score) for score in diagnosis.out_of_distribution],
        neighbours=_neighbours(diagnosis, explanation.neighbours),
        tabs=_tabs(study, explanation.findings),
        opened=_most_notable(explanation),
        for_colour=_css(FOR),
        against_colour=_css(AGAINST),
        script_digest=_script_digest(environment),
    )


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=ChoiceLoader([PackageLoader("consilium.output"), FunctionLoader(_packaged)]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = percent
    environment.filters["share"] = share
    environment.filters["at"] = lambda fraction: f"{100 * fraction:.2f}%"
    environment.filters["signed"] = lambda weight: f"{weight:+.2f}".replace("-", "−")
    return environment


def _packaged(name: str) -> str | None:
    """The template that a modality names as ``package:file``."""
    package, colon, file = name.partition(":")
    return files(package).joinpath(file).read_text(encoding="utf-8") if colon else None


def _script_digest(environment: Environment) -> str:
    """What the page's policy lets run: its own script, and nothing that a record might bring."""
    script = environment.get_template("report.js").render()
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _css(colour: tuple[int, int, int]) -> str:
    return f"{colour[0]} {colour[1]} {colour[2]}"


def _most_notable(explanation: Explanation) -> int:
    """Position of the tab to begin with: called before not called, likelier before less likely."""
    results = [explanation.diagnosis[finding.finding] for finding in explanation.findings]
    order = sorted(range(len(results)), key=lambda i: (results[i].call, results[i].probability))
    return order[-1] if order else 0


# --- the answer ------------------------------------------------------------------------------------------------------


def _row(result: FindingResult) -> dict[str, Any]:
    low, high = result.interval
    call = "called" if result.call else "not called"
    answer = set_in_words(result.prediction_set)
    point = result.operating_point
    label = (
        f"probability {percent(result.probability)}, interval {percent(low)} to {percent(high)}, "
        f"called from {percent(point.threshold)}"
    )
    return {"result": result, "point": point, "call": call, "answer": answer, "low": low, "high": high, "label": label}


def _part(score: OutOfDistributionScore) -> dict[str, Any]:
    """Where a part lies between the most typical study (0) and one with a p-value of `_RAREST` (1)."""
    return {
        "name": part_in_words(score.part),
        "p_value": score.p_value,
        "at": math.log(max(score.p_value, _RAREST)) / math.log(_RAREST),
        "words": typicality_in_words(score),
    }


def _neighbours(diagnosis: Diagnosis, neighbours: Sequence[Neighbour]) -> dict[str, Any]:
    """The nearest training cases, and how many of those known have each finding."""
    findings = [result.finding for result in diagnosis.findings]
    return {
        "findings": [result.display for result in diagnosis.findings],
        "cases": [
            {
                "pseudonym": case.pseudonym,
                "similarity": case.similarity,
                "labels": [case.labels[finding] for finding in findings],
                "modalities": [display_name(modality) for modality in case.modalities],
            }
            for case in neighbours
        ],
        "counts": [_count(finding, neighbours) for finding in findings],
    }


def _count(finding: str, neighbours: Sequence[Neighbour]) -> str:
    known = [case.labels[finding] for case in neighbours if case.labels[finding] is not None]
    return f"{sum(map(bool, known))} of {len(known)}"


# --- the evidence ----------------------------------------------------------------------------------------------------


def _tabs(study: Study, findings: Sequence[FindingExplanation]) -> list[dict[str, Any]]:
    columns = {"left": _cards(study, findings, "left"), "right": _cards(study, findings, "right")}
    return [
        {
            "display": finding.display,
            "steps": _steps(finding),
            "methods": finding.methods,
            **{column: cards[number] for column, cards in columns.items()},
        }
        for number, finding in enumerate(findings)
    ]


def _cards(study: Study, findings: Sequence[FindingExplanation], column: str) -> list[list[tuple[str, Card]]]:
    """Of each finding, the template and what it shows for each modality of one column of the page."""
    found: list[list[tuple[str, Card]]] = [[] for _ in findings]
    for modality, presentation in presentations(modality_names()).items():
        if presentation.column == column:
            cards = presentation.cards(study, [finding.parts.get(modality, ()) for finding in findings])
            for shown, card in zip(found, cards, strict=True):
                if card is not None:
                    shown.append((presentation.template, card))
    return found


def _steps(finding: FindingExplanation) -> list[dict[str, Any]]:
    """From the prior to the answer, one step per modality, as fractions of a common axis of log-odds."""
    edges = [finding.prior_log_odds]
    for value in finding.modalities.values():
        edges.append(edges[-1] + value)
    low, high = min(*edges, 0.0) - 0.5, max(*edges, 0.0) + 0.5
    at = [(edge - low) / (high - low) for edge in edges]
    prior: dict[str, Any] = {
        "name": "Prior",
        "value": None,
        "left": at[0],
        "right": at[0],
        "odds": edges[0],
    }
    steps: list[dict[str, Any]] = [prior]
    for number, (modality, value) in enumerate(finding.modalities.items()):
        ends = sorted((at[number], at[number + 1]))
        steps.append(
            {
                "name": display_name(modality),
                "value": value,
                "left": ends[0],
                "right": ends[1],
                "odds": edges[number + 1],
            }
        )
    for step in steps:
        step["probability"] = float(1 / (1 + np.exp(-step["odds"])))
    return steps
