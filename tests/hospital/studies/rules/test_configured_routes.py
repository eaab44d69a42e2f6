"""gateway.yaml's routes."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from hospital.configuration.gateway_settings import GatewaySettings
from hospital.studies.rules.completeness import CompletenessRules
from hospital.studies.rules.configured_routes import configured_routes
from hospital.studies.rules.prior_rules import PriorRules
from hospital.studies.rules.routing import Conditions, Route

SETTINGS: dict[str, Any] = {
    "time_zone": "Europe/Berlin",
    "store": {"folder": "store", "key_file": "key"},
    "services": {"default": {"url": "http://127.0.0.1:3000"}, "hands": {"url": "http://127.0.0.1:3001"}},
    "http": {"listen": "127.0.0.1:8080"},
    "dicomweb": {"archive": {"url": "http://archive/dicom-web"}},
    "destinations": {"archive-results": {"kind": "stow", "server": "archive"}},
    "completeness": {"quiet": "90s"},
    "routes": {
        "chest": {
            "when": {
                "modalities": ["DX", "CR"],
                "body_parts": ["CHEST"],
                "age": {"at_least": 18},
                "priorities": ["stat"],
            },
            "send_to": ["archive-results"],
            "reading_group": "chest",
            "priors": {"sources": ["archive"], "most": 3, "years": 2, "modalities": ["DX"], "give_up": "10m"},
        },
        "hand": {
            "service": "hands",
            "completeness": {"proofs": ["views", "mpps"], "views": ["PA", "OBLIQUE"], "deadline": "2h"},
        },
    },
}


def test_routes_have_the_conditions_rules_and_destinations_of_the_file_in_its_order() -> None:
    chest, hand = configured_routes(GatewaySettings.model_validate(SETTINGS))
    assert chest == Route(
        "chest",
        "default",
        ("archive-results",),
        CompletenessRules(timedelta(seconds=90), timedelta(minutes=30), ("count",)),
        Conditions(
            modalities=frozenset({"DX", "CR"}),
            body_parts=frozenset({"CHEST"}),
            ages=(18, 151),
            priorities=frozenset({"stat"}),
        ),
        "chest",
        PriorRules(("archive",), 3, 2, frozenset({"DX"}), frozenset(), 64, timedelta(minutes=10)),
    )
    assert (hand.service, hand.destinations, hand.conditions) == ("hands", (), Conditions())
    assert (hand.reading_group, hand.priors) == (None, None)
    assert hand.completeness == CompletenessRules(
        timedelta(seconds=60), timedelta(hours=2), ("announced", "views"), frozenset({"PA", "OBLIQUE"})
    )
