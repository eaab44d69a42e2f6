"""What the gates ended in: one line a demand, and whether all are met."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import pandas as pd
from rich.table import Table
from rich.text import Text

from consilium.domain.errors import ConsiliumError


class Outcome(StrEnum):
    """How one demand ended."""

    PASSED = "passed"
    FAILED = "failed"
    NOT_APPLICABLE = "not applicable"
    """There is nothing to compare with, or nothing that it demands anything of."""


_STYLES = {Outcome.PASSED: "green", Outcome.FAILED: "red", Outcome.NOT_APPLICABLE: ""}


@dataclass(frozen=True, slots=True)
class GateResult:
    """One demand.

    Attributes
    ----------
    gate : str
        What it is about: ``champion``, ``calibration slope``.
    measured, demanded : str
        For readers, with figures.
    figures : mapping of str to float
        For MLflow, by name within the gate.
    """

    gate: str
    outcome: Outcome
    measured: str
    demanded: str
    figures: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of(
        cls, gate: str, passed: bool, measured: str, demanded: str, figures: Mapping[str, float] | None = None
    ) -> GateResult:
        """One that was measured."""
        return cls(gate, Outcome.PASSED if passed else Outcome.FAILED, measured, demanded, figures or {})

    @classmethod
    def not_applicable(cls, gate: str, why: str, demanded: str = "") -> GateResult:
        return cls(gate, Outcome.NOT_APPLICABLE, why, demanded)

    @classmethod
    def unmeasured(cls, gate: str, why: ConsiliumError | str, demanded: str, *, required: bool = True) -> GateResult:
        """One without a figure: it fails, unless it is not required."""
        return cls(gate, Outcome.FAILED if required else Outcome.NOT_APPLICABLE, f"not measured: {why}", demanded)

    def to_json(self) -> dict[str, Any]:
        return {
            "gate": self.gate,
            "outcome": self.outcome.value,
            "measured": self.measured,
            "demanded": self.demanded,
            "figures": dict(self.figures),
        }


@dataclass(frozen=True, slots=True, eq=False)
class GateReport:
    """All demands on one version.

    Attributes
    ----------
    model, champion : str
        ``models:/NAME/VERSION``; no champion is an empty one.
    gates : str
        SHA-256 of what was demanded.
    run_id : str
        MLflow run.
    tables : mapping of str to DataFrame
        Comparisons behind the results, for the run.
    """

    model: str
    champion: str
    gates: str
    run_id: str
    results: tuple[GateResult, ...]
    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """No demand failed."""
        return all(one.outcome is not Outcome.FAILED for one in self.results)

    @property
    def figures(self) -> dict[str, float]:
        """Of all demands, by names that MLflow takes; ``gate/passed`` is 1 or 0."""
        flat = {
            f"gate/{one.gate}/{name}".replace(",", ""): float(value)
            for one in self.results
            for name, value in one.figures.items()
        }
        return flat | {"gate/passed": float(self.passed)}

    def to_json(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "champion": self.champion or None,
            "passed": self.passed,
            "gates_digest": self.gates,
            "run_id": self.run_id,
            "results": [one.to_json() for one in self.results],
        }

    def terminal_tables(self) -> Sequence[Table | Text | str]:
        """For a terminal."""
        table = Table("gate", "outcome", "measured", "demanded", title=f"Gates of {self.model}", title_justify="left")
        for one in self.results:
            style = _STYLES[one.outcome]
            table.add_row(one.gate, Text(one.outcome.value, style=style), Text(one.measured), Text(one.demanded))
        failed = [one.gate for one in self.results if one.outcome is Outcome.FAILED]
        verdict = Text("passed", style="bold green") if self.passed else Text("failed", style="bold red")
        if failed:
            verdict.append(f": {', '.join(failed)}")
        return [table, verdict, f"MLflow run {self.run_id}, gates {self.gates[:12]}"]
