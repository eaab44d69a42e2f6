"""CDS Hooks of a gateway, as gateway.yaml describes them: cards about the answers in its store."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime

import httpx
from starlette.routing import Route

from consilium.output.reported import ReportedStudy
from hospital.configuration.cds_settings import CdsHooksSettings
from hospital.configuration.gateway_settings import GatewaySettings
from hospital.fhir.cds.cds_cards import StoredResult
from hospital.fhir.cds.cds_hooks import CardFeedback, CdsHooks
from hospital.fhir.cds.cds_tokens import TokenCheck, TrustedIssuer
from hospital.fhir.cds.key_sets import KeySet
from hospital.fhir.patient_identifiers import PatientIdentifiers
from hospital.fhir.smart.smart_launch import LAUNCH
from hospital.store.clock import Clock
from hospital.store.gateway_store import Store
from hospital.store.received import PatientId
from hospital.store.state import StudyStage, StudyState
from hospital.studies.answered_study import reported_revision

logger = logging.getLogger("consilium.gateway")

_MOST_RESULTS = 5
_KEYS_WITHIN_S = 5.0


def cds_routes(settings: GatewaySettings, store: Store, clock: Clock) -> list[Route]:
    """The routes; none where the configuration has no `cds_hooks`.

    Raises
    ------
    InputError
        A certificate cannot be read.
    """
    given = settings.cds_hooks
    if given is None:
        return []
    tokens = TokenCheck(_issuers(given, clock), clock)
    launch = None if settings.smart_launch is None else f"{settings.smart_launch.url}{LAUNCH}"
    results = PatientResults(store, patient_systems(settings), launch)
    return CdsHooks(given.url, tokens, results, FeedbackCounts()).routes


def patient_systems(settings: GatewaySettings) -> dict[str, str]:
    """Systems of identifiers in FHIR → issuers in the configuration."""
    servers = [one for one in settings.fhir.values() if one.patient_system and one.patient_issuer]
    known = {str(one.patient_system): str(one.patient_issuer) for one in servers}
    names = {name: issuer for issuer, one in settings.identifiers.items() for name in one.known_as}
    uris = {name: issuer for name, issuer in names.items() if name.startswith(("urn:", "http:", "https:"))}
    oids = {f"urn:oid:{name}": issuer for name, issuer in names.items() if name.replace(".", "").isdigit()}
    return {**oids, **uris, **known}


@dataclass(frozen=True, slots=True)
class LatestResult:
    """The latest answer to a study; `day` is the study's."""

    reported: ReportedStudy
    created: datetime
    day: date | None


class PatientResults:
    """The latest answer to each of a patient's studies, those that were taken last first.

    Parameters
    ----------
    systems : mapping
        See `patient_systems`; an identifier of another system names nobody here.
    launch : str, optional
        Where a SMART launch of the results begins.
    """

    def __init__(self, store: Store, systems: Mapping[str, str], launch: str | None = None) -> None:
        self._store = store
        self._systems = systems
        self._launch = launch

    def __call__(self, identifiers: PatientIdentifiers) -> list[StoredResult]:
        found = (self.latest(one) for one in self.answered(identifiers)[:_MOST_RESULTS])
        results = [StoredResult(one.reported, one.day, launch=self._launch) for one in found if one is not None]
        return sorted(results, key=lambda one: one.day or date.min, reverse=True)

    def answered(self, identifiers: PatientIdentifiers) -> list[StudyState]:
        """The patient's studies that are answered, those that last received something first."""
        named = [PatientId(value, self._systems[system]) for system, value in identifiers if system in self._systems]
        everyone = {one for patient in named for one in self._store.patients.same(patient)}
        found = self._store.studies.of(everyone) if everyone else []
        return [one for one in reversed(found) if one.stage is StudyStage.ANSWERED]

    def latest(self, state: StudyState) -> LatestResult | None:
        """The latest answer to a study."""
        revisions = self._store.studies.revisions(state.study)
        if not revisions or revisions[-1].withdrawn:
            return None
        times = [one.description.acquired for one in self._store.records.instances(state.study)]
        day = min((time for time in times if time is not None), default=None)
        return LatestResult(reported_revision(revisions[-1]), revisions[-1].time, day.date() if day else None)


class FeedbackCounts:
    """What became of cards, counted by outcome."""

    def __init__(self) -> None:
        self.outcomes = Counter[str]()

    def __call__(self, given: Sequence[CardFeedback]) -> None:
        self.outcomes.update(one.outcome for one in given)
        for one in given:
            logger.info("card %s was %s", one.card, one.outcome)


def _issuers(given: CdsHooksSettings, clock: Clock) -> dict[str, TrustedIssuer]:
    found = {}
    for issuer, one in given.issuers.items():
        verify = one.tls.context(f"cds_hooks.issuers.{issuer}.tls")
        http = httpx.AsyncClient(verify=verify, timeout=_KEYS_WITHIN_S)
        found[issuer] = TrustedIssuer(KeySet(http, one.key_set_url, clock), one.key_set_url)
    return found
