"""CDS Hooks 2.0: results that are there, shown in the record system when a chart is opened or an order is drafted.

Results are looked up, never made: an answer is due within half a second. The patient is known by the identifiers of the
prefetched Patient, whose systems are ours; the record system is never called back.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from hospital.fhir.cds.cds_cards import StoredResult, cards
from hospital.fhir.cds.cds_tokens import TokenCheck, TokenRefused
from hospital.fhir.patient_identifiers import PatientIdentifiers, current_identifiers
from hospital.fhir.results.result_values import Json

logger = logging.getLogger("consilium.gateway")

LONGEST_LOOKUP_S = 0.4
_MOST_BYTES = 1 << 20
_MOST_CARDS = 5
_MOST_FEEDBACK = 100
_PREFETCH = {"patient": "Patient/{{context.patientId}}"}

HOOKS = {
    "patient-view": "Findings of imaging studies of the patient whose chart is opened.",
    "order-select": "Findings of imaging studies of the patient for whom imaging is selected.",
    "order-sign": "Findings of imaging studies of the patient for whom an order is signed.",
}
_OUTCOMES = ("accepted", "overridden")


@dataclass(frozen=True, slots=True)
class CardFeedback:
    """What became of a card: ``accepted`` or ``overridden``, and the code of the reason."""

    card: str
    outcome: str
    reason: str | None


class Problem(Exception):
    """An answer other than 200."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(status, detail)
        self.status = status
        self.detail = detail


@dataclass(frozen=True, slots=True)
class CdsHooks:
    """The services.

    Attributes
    ----------
    base_url : str
        As record systems call it; a token is for a URL below it. What a request says of its own host is not asked.
    tokens : TokenCheck
    results : callable
        Identifiers of one patient → results, the newest first; called on a thread.
    feedback : callable
        Takes what became of cards; called on a thread.
    """

    base_url: str
    tokens: TokenCheck
    results: Callable[[PatientIdentifiers], Sequence[StoredResult]]
    feedback: Callable[[Sequence[CardFeedback]], None]

    @property
    def routes(self) -> list[Route]:
        return [
            Route("/cds-services", self._discovery, methods=["GET"]),
            Route("/cds-services/{service}", self._service, methods=["POST"]),
            Route("/cds-services/{service}/feedback", self._feedback, methods=["POST"]),
        ]

    async def _discovery(self, request: Request) -> Response:
        """Says what there is; asks for no token, as the specification has it."""
        del request
        return JSONResponse({"services": [_described(hook, said) for hook, said in HOOKS.items()]})

    async def _service(self, request: Request) -> Response:
        return await self._answered(request, "", self._cards)

    async def _feedback(self, request: Request) -> Response:
        return await self._answered(request, "/feedback", self._take_feedback)

    async def _answered(self, request: Request, ending: str, answer: Callable[[str, Json], Any]) -> Response:
        hook = service_hook(request.path_params["service"])
        try:
            if hook is None:
                raise Problem(404, "there is no such service")
            await self._authorised(request, f"{self.base_url}/cds-services/{service_name(hook)}{ending}")
            return JSONResponse(await answer(hook, await _body(request)))
        except Problem as problem:
            return JSONResponse({"detail": problem.detail}, problem.status)

    async def _authorised(self, request: Request, url: str) -> None:
        try:
            await self.tokens.check(request.headers.get("authorization"), url)
        except TokenRefused as error:
            logger.warning("a CDS client was refused: %s", error)
            raise Problem(401, "must carry a JWT of a trusted issuer for this URL") from None

    async def _cards(self, hook: str, body: Json) -> Json:
        _check_request(hook, body)
        identifiers = _patient_identifiers(body)
        if not identifiers or not _concerns_imaging(hook, body["context"]):
            return cards([])
        try:
            async with asyncio.timeout(LONGEST_LOOKUP_S):
                found = await asyncio.to_thread(self.results, identifiers)
        except TimeoutError:
            raise Problem(503, "the results could not be looked up in time") from None
        return cards(found[:_MOST_CARDS])

    async def _take_feedback(self, hook: str, body: Json) -> Json:
        del hook
        given = body.get("feedback")
        if not isinstance(given, list) or not 0 < len(given) <= _MOST_FEEDBACK:
            raise Problem(400, f"feedback must be a list of 1 to {_MOST_FEEDBACK}")
        await asyncio.to_thread(self.feedback, [_read_feedback(one) for one in given])
        return {}


def service_name(hook: str) -> str:
    return f"consilium-{hook}"


def service_hook(name: str) -> str | None:
    hook = name.removeprefix("consilium-")
    return hook if hook in HOOKS and name == service_name(hook) else None


def _described(hook: str, said: str) -> Json:
    return {
        "hook": hook,
        "id": service_name(hook),
        "title": "Consilium: findings of imaging studies",
        "description": f"{said} Decision support; looked up, not computed.",
        "prefetch": _PREFETCH,
    }


async def _body(request: Request) -> Json:
    data = bytearray()
    async for chunk in request.stream():
        data += chunk
        if len(data) > _MOST_BYTES:
            raise Problem(413, f"must be at most {_MOST_BYTES} bytes")
    try:
        body = json.loads(data)
    except (ValueError, RecursionError):
        raise Problem(400, "must be JSON") from None
    if not isinstance(body, dict):
        raise Problem(400, "must be a JSON object")
    return body


def _check_request(hook: str, body: Json) -> None:
    if body.get("hook") != hook:
        raise Problem(400, f"hook must be {hook}")
    try:
        UUID(body["hookInstance"])
    except (KeyError, TypeError, ValueError, AttributeError):
        raise Problem(400, "hookInstance must be a UUID") from None
    context = body.get("context")
    if not isinstance(context, dict) or not isinstance(context.get("patientId"), str) or not context["patientId"]:
        raise Problem(400, "context.patientId must be there")


def _patient_identifiers(body: Mapping[str, Any]) -> PatientIdentifiers:
    """Of the prefetched patient. A key that is absent was not fetched; one that is null found nobody."""
    prefetch = body.get("prefetch")
    if not isinstance(prefetch, dict) or "patient" not in prefetch:
        raise Problem(412, "prefetch.patient must be there")
    patient = prefetch["patient"]
    if patient is None:
        return []
    if not isinstance(patient, dict) or patient.get("resourceType") != "Patient":
        raise Problem(412, "prefetch.patient must be a Patient")
    if patient.get("id") != body["context"]["patientId"]:
        raise Problem(412, "prefetch.patient must be the patient of the context")
    return current_identifiers(patient)


def _concerns_imaging(hook: str, context: Mapping[str, Any]) -> bool:
    """Whether a chart is opened, or a service is among the orders: of those selected, where some are."""
    if hook == "patient-view":
        return True
    drafts = context.get("draftOrders")
    entries = drafts.get("entry") if isinstance(drafts, dict) else None
    resources = [one.get("resource") for one in entries if isinstance(one, dict)] if isinstance(entries, list) else []
    requests = [one for one in resources if isinstance(one, dict) and one.get("resourceType") == "ServiceRequest"]
    if hook == "order-sign":
        return bool(requests)
    selections = context.get("selections")
    if not isinstance(selections, list):
        raise Problem(400, "context.selections must be a list")
    return any(f"ServiceRequest/{one.get('id')}" in selections for one in requests)


def _read_feedback(given: object) -> CardFeedback:
    """Free texts of users are not taken: they may name patients."""
    if not isinstance(given, dict) or given.get("outcome") not in _OUTCOMES:
        raise Problem(400, f"feedback.outcome must be one of {', '.join(_OUTCOMES)}")
    try:
        card = str(UUID(given["card"]))
    except (KeyError, TypeError, ValueError, AttributeError):
        raise Problem(400, "feedback.card must be the uuid of a card") from None
    override = given.get("overrideReason")
    reason = override.get("reason") if isinstance(override, dict) else None
    code = reason.get("code") if isinstance(reason, dict) else None
    return CardFeedback(card, given["outcome"], code[:64] if isinstance(code, str) else None)
