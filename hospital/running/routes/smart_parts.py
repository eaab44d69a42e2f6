"""The SMART launch of a gateway, as gateway.yaml describes it: results in its store."""

from __future__ import annotations

from dataclasses import dataclass

import httpx
from starlette.routing import Route

from hospital.configuration.gateway_settings import GatewaySettings
from hospital.fhir.patient_identifiers import PatientIdentifiers
from hospital.fhir.smart.authorization_server import RecordSystem
from hospital.fhir.smart.smart_launch import CALLBACK, ShownResult, SmartLaunch, StudyWanted
from hospital.running.routes.cds_parts import PatientResults, patient_systems
from hospital.store.clock import Clock
from hospital.store.gateway_store import Store
from hospital.store.state import StudyState

_WITHIN_S = 10.0
_MOST_RESULTS = 5


@dataclass(frozen=True, slots=True)
class LaunchedResults:
    """Results of a launch's patient, of the study that is meant; `hospital.fhir.smart.smart_launch.FindResults`."""

    results: PatientResults

    def __call__(self, identifiers: PatientIdentifiers, wanted: StudyWanted) -> list[ShownResult]:
        states = [one for one in self.results.answered(identifiers) if wanted.any or _is_meant(one, wanted)]
        return [
            ShownResult(found.reported, found.created, found.day)
            for one in states[:_MOST_RESULTS]
            if (found := self.results.latest(one)) is not None
        ]


def _is_meant(state: StudyState, wanted: StudyWanted) -> bool:
    accession = None if state.accession is None else state.accession.value
    return state.study in wanted.studies or accession in wanted.accessions


def smart_routes(settings: GatewaySettings, store: Store, clock: Clock) -> list[Route]:
    """The routes; none where the configuration has no `smart_launch`.

    Raises
    ------
    InputError
        A secret or certificate cannot be read.
    """
    given = settings.smart_launch
    if given is None:
        return []
    systems = {}
    for issuer, one in given.issuers.items():
        field = f"smart_launch.issuers.{issuer}"
        http = httpx.AsyncClient(verify=one.tls.context(f"{field}.tls"), timeout=_WITHIN_S)
        secret = None if one.client_secret is None else one.client_secret.read(f"{field}.client_secret")
        redirect = f"{given.url}{CALLBACK}"
        systems[issuer] = RecordSystem(issuer, http, one.client_id, secret, one.scopes, redirect, clock)
    results = LaunchedResults(PatientResults(store, patient_systems(settings)))
    return SmartLaunch(systems, results, clock, given.embedded_by, secure=given.secure).routes()
