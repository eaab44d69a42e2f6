"""The monitor's outcome for people and machines: a page and JSON, written whole."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from consilium.system.durable import replace_file
from training.card.card_writing import CardTable, Section, Words, frame_table, page, picture
from training.monitoring.monitor import MonitorResult
from training.monitoring.output.monitor_figures import evidence_figure, performance_figure
from training.monitoring.output.monitor_gauges import gauges
from training.monitoring.output.wording import alarm_sentence, date_of, name_of_test, subject, time_of

LATEST, REPORT = "latest.json", "report.html"

_NOTHING = "No alarm: nothing has changed that the tests can see."
_UNTESTED = "Not tested yet: answers are tested once a whole day of them is over."
_ACCEPTING = (
    "An alarm stays until it is accepted (consilium monitor accept); then the tests start anew, and compare answers "
    "with those that follow."
)
_DESCRIBES = "This describes and raises no alarm. Drifted: at a false discovery rate of 5 % over all lines."
_LABEL_SHIFT = "Estimated without outcomes, as if studies with a finding looked as they did at training."
_CORRECTION = "Whether that is right is for outcomes to say."
_LABEL_FREE = (
    "What performance is if every probability is right. It follows a change of the mix of patients. It is valid only "
    "without concept shift: where the same picture means another disease, it sees nothing."
)
_CONFIRMATION = (
    "Only answers older than the delay within which nine in ten outcomes came. Who is confirmed is no accident: "
    "weighted figures undo a choice by probability, referral and modalities, and no other one."
)
_MOST_TESTS = 12


def as_document(result: MonitorResult) -> dict[str, Any]:
    """Everything but the evidence of each answer: what ``latest.json`` holds."""
    identity, findings = result.model.identity, result.model.findings
    return {
        "model": identity.name,
        "version": identity.version,
        "manifest_digest": identity.manifest_digest,
        "since": time_of(result.since),
        "until": time_of(result.until),
        "tested_since": time_of(result.started),
        "yearly_false_alarm_rate": result.rule.yearly_rate,
        "answers": result.recent,
        "alarms": [
            {
                "name": one.name,
                "since": one.since,
                "statistic": "e-value",
                "e_value": one.e_value,
                "sentence": alarm_sentence(one, findings),
            }
            for one in result.state.alarms
        ],
        "gauges": gauges(result),
        "tables": {name: _records(table) for name, table in result.tables.items()},
    }


def write_files(result: MonitorResult, folder: Path) -> None:
    """Write `LATEST` and `REPORT` into `folder`, each in one step."""
    replace_file(folder / REPORT, report_page(result).encode())
    replace_file(folder / LATEST, json.dumps(as_document(result), indent=1, allow_nan=False).encode())


def report_page(result: MonitorResult) -> str:
    """One HTML page that fetches nothing and runs no script."""
    identity, count = result.model.identity, len(result.state.alarms)
    title = f"Monitor of {identity.name}, version {identity.version}"
    banner = f"{count} alarm{'s' if count > 1 else ''}: the answers or their input changed." if count else quiet(result)
    sections = [write(result) for write in _SECTIONS]
    return page(title, banner, [one for one in sections if not one.empty], warned=bool(count))


def quiet(result: MonitorResult) -> str:
    """What it means that there is no alarm."""
    return _NOTHING if any(one.count for one in result.tested) else _UNTESTED


def _alarms(result: MonitorResult) -> Section:
    findings = result.model.findings
    strongest = sorted(result.tested, key=lambda one: one.log_e_value / -math.log(one.alpha), reverse=True)
    rows = tuple(
        (
            name_of_test(one.kind, one.label, findings),
            f"{one.count:,}",
            f"{one.log_e_value / -math.log(one.alpha):.2f}",
            "" if one.crossed is None else "yes",
        )
        for one in strongest[:_MOST_TESTS]
    )
    columns = ("test", "answers", "log evidence, alarm from 1", "alarm")
    span = f"{result.tested_answers:,} answers were given from {date_of(result.started)} until {time_of(result.until)}."
    rate = f"Where nothing changes, any alarm within a year has a chance of at most {result.rule.yearly_rate:.0%}"
    title, evidence = "Evidence of every test; the dashed line is an alarm", evidence_figure(result)
    return Section(
        "Alarms",
        (f"{span} {rate}, however often this is looked at.", _ACCEPTING),
        points=tuple(alarm_sentence(one, findings) for one in result.state.alarms),
        tables=(CardTable(f"The strongest of {len(result.tested)} tests", columns, rows),),
        pictures=() if evidence is None else (picture(title, evidence),),
    )


def _drift(result: MonitorResult) -> Section:
    recent = f"{result.recent:,} answers from {date_of(result.since)} on"
    before = f"against those before them since {date_of(result.started)}, and against the studies held out of training"
    tables = {
        "One column at a time": _with_subjects(result, "univariate"),
        "Features of a part together": result.tables["multivariate"],
    }
    return Section(
        "How recent answers differ", (f"{recent}, {before}. {_DESCRIBES}",), tables=_nonempty(result, tables)
    )


def _priors(result: MonitorResult) -> Section:
    table = result.tables["prior_shift"]
    options = " ".join(option for option in table.option if option) if len(table) else ""
    correction = f"Answers corrected for what differs: consilium evaluate … {options}. {_CORRECTION}" if options else ""
    return Section(
        "How frequent findings are", (_LABEL_SHIFT, correction), tables=_nonempty(result, {"Frequency": table})
    )


def _expected(result: MonitorResult) -> Section:
    tables = {"Recent answers": result.tables["expected"]}
    return Section("Expected performance, without outcomes", (_LABEL_FREE,), tables=_nonempty(result, tables))


def _outcomes(result: MonitorResult) -> Section:
    title, tables = "Performance with outcomes", result.tables
    if not tables["confirmation"].confirmed.sum():
        return Section(title, ("No outcome of an answer that is old enough is known.",))
    figure = performance_figure(result)
    named = {
        "Who was confirmed": tables["confirmation"],
        "Over time, 30 days a window": tables["over_time"],
        "By group": tables["by_group"],
    }
    pictures = () if figure is None else (picture("Performance over time", figure),)
    return Section(title, (_CONFIRMATION,), tables=_nonempty(result, named), pictures=pictures)


def _rates(result: MonitorResult) -> Section:
    tables = {"Means": _with_subjects(result, "rates")}
    text = "With bounds that hold at every look together, where nothing changes."
    return Section("Rates since the tests began", (text,), tables=_nonempty(result, tables))


_SECTIONS: tuple[Callable[[MonitorResult], Section], ...] = (_alarms, _drift, _priors, _expected, _outcomes, _rates)


def _nonempty(result: MonitorResult, tables: dict[str, pd.DataFrame]) -> tuple[CardTable, ...]:
    words = Words(result.model.findings)
    return tuple(frame_table(title, frame, words) for title, frame in tables.items() if len(frame))


def _with_subjects(result: MonitorResult, name: str) -> pd.DataFrame:
    """The table with what a reader calls its lines."""
    table = result.tables[name]
    pairs = zip(table.kind.astype(str), table.label.astype(str), strict=True)
    return table.assign(label=[subject(kind, label, result.model.findings) for kind, label in pairs])


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows of `table`; None in place of what JSON has no word for."""
    rows = table.to_dict("records")
    return [
        {str(name): None if isinstance(cell, float) and not math.isfinite(cell) else cell for name, cell in row.items()}
        for row in rows
    ]
