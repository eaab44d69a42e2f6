"""EHR launch: a user of the record system opens the results of the patient whose chart is open.

``GET /smart/launch?iss&launch`` sends the browser to the record system's authorisation server; ``/smart/callback``
takes its answer, learns the patient from it, and shows what the store has. Nothing of the launch is kept: tokens and
identifiers live as long as the page is being made. Source: SMART App Launch 2.2; RFC 9700 2.1.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import logging
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from html import escape
from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from consilium.output.reported import ReportedStudy
from hospital.fhir.patient_identifiers import PatientIdentifiers, current_identifiers
from hospital.fhir.results.presented_form import page_of, result_body
from hospital.fhir.smart.authorization_server import LaunchContext, RecordSystem, RecordSystemUnusable
from hospital.store.clock import Clock

logger = logging.getLogger("consilium.gateway")

LAUNCH, CALLBACK = "/smart/launch", "/smart/callback"
_COOKIE = "consilium-launch"
_PATIENCE = timedelta(minutes=10)
_MOST_ATTEMPTS = 10_000
_LONGEST = 4096
_STUDY_SYSTEM = "urn:dicom:uid"
_AGAIN = "Open it again from the record system."


@dataclass(frozen=True, slots=True)
class StudyWanted:
    """Which study of a patient is meant: by Study Instance UID or accession number; by neither, any."""

    studies: frozenset[str] = frozenset()
    accessions: frozenset[str] = frozenset()

    @property
    def any(self) -> bool:
        return not self.studies and not self.accessions


@dataclass(frozen=True, slots=True)
class ShownResult:
    """A result for the page."""

    reported: ReportedStudy
    created: datetime
    day: date | None


FindResults = Callable[[PatientIdentifiers, StudyWanted], Sequence[ShownResult]]
"""Results of a patient, the newest first; called on a thread."""


@dataclass(frozen=True, slots=True)
class _Attempt:
    """A browser that was sent to a record system; `browser` is in its cookie."""

    issuer: str
    browser: str = field(repr=False)
    verifier: str = field(repr=False)
    until: datetime

    @property
    def challenge(self) -> str:
        """S256 of the verifier (RFC 7636, section 4.2)."""
        digest = hashlib.sha256(self.verifier.encode()).digest()
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


class SmartLaunch:
    """The routes of the app.

    Parameters
    ----------
    systems : mapping
        Record systems by their ``iss``: no other is ever fetched from.
    frames : sequence of str
        Origins that may show the page in a frame.
    secure : bool
        Whether browsers reach the gateway by https.
    """

    def __init__(
        self,
        systems: Mapping[str, RecordSystem],
        results: FindResults,
        clock: Clock,
        frames: Sequence[str] = (),
        *,
        secure: bool = True,
    ) -> None:
        self._systems, self._results, self._now, self._secure = systems, results, clock, secure
        self._attempts: dict[str, _Attempt] = {}
        ancestors = " ".join(frames) or "'none'"
        self._headers = {
            "Cache-Control": "no-store",
            "Content-Security-Policy": f"default-src 'none'; frame-ancestors {ancestors}; base-uri 'none'",
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
        }

    def routes(self) -> list[Route]:
        return [Route(LAUNCH, self._launch, methods=["GET"]), Route(CALLBACK, self._callback, methods=["GET"])]

    async def _launch(self, request: Request) -> Response:
        issuer, launch = request.query_params.get("iss", "").rstrip("/"), request.query_params.get("launch", "")
        system = self._systems.get(issuer)
        if system is None or not launch or len(launch) > _LONGEST:
            logger.warning("a launch was refused: %s", "no launch" if system else "an unknown record system")
            return self._problem(400, "This record system is not known here, or the launch is not complete.")
        browser, verifier, state = (secrets.token_urlsafe(32) for _ in range(3))
        attempt = _Attempt(issuer, browser, verifier, self._now() + _PATIENCE)
        try:
            url = await system.authorize_url(launch, state, attempt.challenge)
        except RecordSystemUnusable as error:
            logger.warning("a launch failed: %s", error)
            return self._problem(502, f"The record system cannot be used now. {_AGAIN}")
        self._remember(state, attempt)
        answer = RedirectResponse(url, 302, self._headers)
        # In a frame of the record system the cookie is a third party's, which browsers send with SameSite=None alone.
        answer.set_cookie(
            f"{_COOKIE}-{state[:16]}",
            browser,
            max_age=int(_PATIENCE.total_seconds()),
            path=CALLBACK,
            secure=self._secure,
            httponly=True,
            samesite="none" if self._secure else "lax",
        )
        return answer

    async def _callback(self, request: Request) -> Response:
        state, code = request.query_params.get("state", ""), request.query_params.get("code", "")
        attempt = self._attempts.pop(state, None)
        shown = request.cookies.get(f"{_COOKIE}-{state[:16]}", "")
        if (
            attempt is None
            or attempt.until < self._now()
            or not hmac.compare_digest(shown.encode(), attempt.browser.encode())
        ):
            logger.warning("an answer to a launch was refused: it belongs to none of this browser")
            return self._problem(400, f"This page was opened before, or too late. {_AGAIN}")
        if not code or len(code) > _LONGEST:
            logger.warning("a launch failed: the record system gave no code")
            return self._problem(403, f"The record system did not allow it. {_AGAIN}")
        try:
            return await self._shown(self._systems[attempt.issuer], code, attempt.verifier)
        except RecordSystemUnusable as error:
            logger.warning("a launch failed: %s", error)
            return self._problem(502, f"The record system cannot be used now. {_AGAIN}")

    async def _shown(self, system: RecordSystem, code: str, verifier: str) -> Response:
        context = await system.exchange(code, verifier)
        patient = await system.read(context, f"Patient/{context.patient}")
        wanted = await _wanted(system, context)
        found = await asyncio.to_thread(self._results, current_identifiers(patient), wanted)
        logger.info("a launch showed %d results", len(found))
        body = [f"<h1>{escape(_banner(patient))}</h1>"]
        for one in found:
            day = "Study" if one.day is None else f"Study of {one.day.isoformat()}"
            body += [f"<h2>{escape(day)}</h2>", *result_body(one.reported, one.created)]
        if not found:
            words = "of this patient" if wanted.any else "of this study"
            body.append(f"<p>There is no result {words}.</p>")
        return HTMLResponse(page_of(body), 200, self._headers)

    def _remember(self, state: str, attempt: _Attempt) -> None:
        now = self._now()
        while self._attempts:
            oldest = next(iter(self._attempts))
            if self._attempts[oldest].until >= now and len(self._attempts) < _MOST_ATTEMPTS:
                break
            del self._attempts[oldest]
        self._attempts[state] = attempt

    def _problem(self, status: int, words: str) -> Response:
        return HTMLResponse(page_of([f"<p>{escape(words)}</p>"]), status, self._headers)


async def _wanted(system: RecordSystem, context: LaunchContext) -> StudyWanted:
    """What the record system has open beside the patient, of this patient alone."""
    studies, accessions = set[str](), set[str]()
    for reference in context.references:
        resource = await system.read(context, reference)
        subject = resource.get("subject")
        if not isinstance(subject, dict) or subject.get("reference") != f"Patient/{context.patient}":
            raise RecordSystemUnusable("what is open there is another patient's")
        for name, value in current_identifiers(resource):
            if name == _STUDY_SYSTEM:
                studies.add(value.removeprefix("urn:oid:"))
            else:
                accessions.add(value)
    if context.references and not studies and not accessions:
        raise RecordSystemUnusable("what is open there has no identifier")
    return StudyWanted(frozenset(studies), frozenset(accessions))


def _banner(patient: Mapping[str, Any]) -> str:
    """Name and birth date, as whoever looks at it must be able to see whose results these are."""
    names = [one for one in patient.get("name") or [] if isinstance(one, dict)] or [{}]
    given = names[0].get("given")
    first = " ".join(str(one) for one in given) if isinstance(given, list) else ""
    name = f"{names[0].get('family', '')}, {first}".strip(", ") or str(names[0].get("text", "")) or "No name"
    return f"{name[:200]}, born {str(patient.get('birthDate', 'at an unknown date'))[:32]}"
