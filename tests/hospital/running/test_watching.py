"""The dashboard and the alerts of the gateway ask for metrics, labels and stages that there are."""

from __future__ import annotations

import json
import re
from typing import Any

import yaml

from hospital.store.state import DeliveryStage, StudyStage
from tests.conftest import ROOT

DEPLOY = ROOT / "deploy"
RULES: list[dict[str, Any]] = yaml.safe_load((DEPLOY / "prometheus" / "gateway-alerts.yaml").read_text())["groups"][0][
    "rules"
]
DASHBOARD = json.loads((DEPLOY / "grafana" / "gateway.json").read_text())


def shown() -> set[str]:
    """Every metric of the gateway's modules; a counter's name gets an ending."""
    source = "\n".join(path.read_text() for path in (ROOT / "hospital").rglob("*.py"))
    counters = re.findall(r'\.add\(\s*"(consilium_gateway_\w+)"', source)
    gauges = re.findall(r'GaugeMetricFamily\(\s*"(consilium_gateway_\w+)"', source)
    return {*gauges, *(f"{name}_total" for name in counters)}


def expressions() -> list[str]:
    panels = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
    return [*panels, *(rule["expr"] for rule in RULES)]


def test_every_metric_that_is_asked_for_is_shown() -> None:
    asked = {name for one in expressions() for name in re.findall(r"consilium_gateway_\w+", one)}

    assert asked <= shown()
    assert len(asked) >= 8


def test_every_stage_that_is_asked_for_is_one() -> None:
    stages = {
        stage for one in expressions() for found in re.findall(r'stage=~?"([^"]+)"', one) for stage in found.split("|")
    }

    assert stages <= {*StudyStage, *DeliveryStage}
    assert {"dead", "failed"} <= stages


def test_every_alert_says_what_to_do_and_no_panel_lies_over_another() -> None:
    assert all(rule["annotations"]["summary"] and rule["annotations"]["description"] for rule in RULES)
    places = [one["gridPos"] for one in DASHBOARD["panels"]]
    cells = [
        (x, y) for at in places for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24
