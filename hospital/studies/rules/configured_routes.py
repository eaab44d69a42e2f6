"""The routes that gateway.yaml describes."""

from __future__ import annotations

from collections.abc import Mapping

from hospital.configuration import route_settings
from hospital.configuration.gateway_settings import GatewaySettings
from hospital.configuration.route_settings import Completeness
from hospital.studies.rules.completeness import CompletenessRules, Proof
from hospital.studies.rules.prior_rules import PriorRules
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
            _conditions(route.when),
            route.reading_group,
            None if route.priors is None else PriorRules(**dict(route.priors)),
        )
        for name, route in settings.routes.items()
    )


def _conditions(given: route_settings.Conditions) -> Conditions:
    alike = {name: getattr(given, name) for name in Conditions.__dataclass_fields__ if name != "ages"}
    return Conditions(**alike, ages=None if given.age is None else (given.age.at_least, given.age.below))


def _rules(given: Completeness) -> CompletenessRules:
    proofs = tuple(proof for name, proof in _PROOFS.items() if name in given.proofs)
    return CompletenessRules(given.quiet, given.deadline, proofs, given.views)
