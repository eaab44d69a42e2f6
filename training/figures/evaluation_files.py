"""An evaluation as files: tables, one JSON document, figures."""

from __future__ import annotations

import json
import re
from pathlib import Path

from training.evaluation.results import Evaluation
from training.figures.metric_figures import reliability_figure, roc_figure, subset_reliability_figure

_NOT_IN_FILE_NAME = re.compile(r"[^\w\-.]")


def save_evaluation(evaluation: Evaluation, folder: Path) -> list[Path]:
    """Write every table as CSV, ``evaluation.json`` and the figures; return these files.

    The figures are ``roc.png``, ``reliability.png`` and, where there are several subsets,
    ``reliability_by_subset.png``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for name, table in evaluation.tables.items():
        files.append(folder / f"{_NOT_IN_FILE_NAME.sub('_', name)}.csv")
        table.to_csv(files[-1], index=False)
    files.append(folder / "evaluation.json")
    files[-1].write_text(json.dumps(evaluation.to_json(), indent=1, allow_nan=False), encoding="utf-8")
    figures = {"roc": roc_figure(evaluation), "reliability": reliability_figure(evaluation)}
    if sum(row.of_one_subset for row in evaluation.probabilities) > 1:
        figures["reliability_by_subset"] = subset_reliability_figure(evaluation)
    for name, figure in figures.items():
        files.append(folder / f"{name}.png")
        figure.savefig(files[-1], dpi=150)
    return files
