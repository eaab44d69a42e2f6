"""What a comparison of fusions ends in."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

import pandas as pd

from training.evaluation.comparisons import MACRO

_NOT_IN_MLFLOW = re.compile(r"[^\w\-. /]")
SHARES = ("auroc_share", "information_share")
"""What part of the possible a contender reaches; where the cohort knows what is possible."""


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """How the contenders did on the test split.

    Attributes
    ----------
    everything : str
        Key of the largest subset.
    reference : str
        Contender that the others are set against: the product of the modalities' own experts.
    best : str
        Contender whose fusion had the lowest validation loss.
    tables : dict of str to DataFrame
        ``contenders`` (cost), ``shares``, ``differences``; ``explaining_away`` where the cohort knows its confounders.
        The columns are those of `training.experiments.fusion_comparison.scoring`.
    """

    everything: str
    reference: str
    best: str
    tables: dict[str, pd.DataFrame]

    @property
    def metrics(self) -> dict[str, float]:
        """Figures worth tracking, by names that MLflow takes: ``fusion/early/image_text/information_share``."""
        flat: dict[str, float] = {}
        for line in lines_of(self.tables["shares"], finding=MACRO):
            for name in ("auroc", "nll", *SHARES):
                if name in line:
                    flat[f"{line['contender']}/{line['subset']}/{name}"] = line[name]
        for line in lines_of(self.tables["contenders"]):
            flat |= {f"{line['contender']}/{name}": line[name] for name in ("seconds", "parameters")}
        return {_NOT_IN_MLFLOW.sub("_", name): float(value) for name, value in flat.items() if math.isfinite(value)}

    def to_json(self) -> dict[str, Any]:
        """For `json.dumps`; what could not be measured is None. No study and no patient is named."""
        tables = {name: [_jsonable(line) for line in lines_of(table)] for name, table in self.tables.items()}
        return {"reference": self.reference, "best": self.best, "tables": tables}


def lines_of(table: pd.DataFrame, **where: str) -> list[dict[str, Any]]:
    """The lines of `table` whose columns are as in `where`, by column."""
    for name, wanted in where.items():
        table = table[table[name] == wanted]
    return [{str(name): value for name, value in line.items()} for line in table.to_dict(orient="records")]


def _jsonable(line: dict[str, Any]) -> dict[str, Any]:
    return {name: None if isinstance(v, float) and not math.isfinite(v) else v for name, v in line.items()}
