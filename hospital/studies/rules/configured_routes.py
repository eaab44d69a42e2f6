"""The routes that gateway.yaml describes."""

from __future__ import annotations

from collections.abc import Mapping

from hospital.configuration.gateway_settings import GatewaySettings
from hospital.configuration.route_settings import Completeness
from hospital.studies.rules.completeness import CompletenessRules, Proof
from hospital.studies.rules.routing import Conditions, Route

_PROOFS: Mapping[str, Proof] = {"count_of_source": "count", "mpps": "announced", "views": "views"}


def configured_routes(settings: GatewaySettings) -> tuple[Route, ...]:
    """In the order in which they are tried."""
    return tuple(
        Route(
            name,
            route.service,
            route.send_to,
            _rules(route.completeness or settings.completeness),
            Conditions(**{field: getattr(route.when, field) for field in Conditions.__dataclass_fields__}),
            route.reading_group,
        )
        for name, route in settings.routes.items()
    )


def _rules(given: Completeness) -> CompletenessRules:
    proofs = tuple(proof for name, proof in _PROOFS.items() if name in given.proofs)
    return CompletenessRules(given.quiet, given.deadline, proofs, given.views)
