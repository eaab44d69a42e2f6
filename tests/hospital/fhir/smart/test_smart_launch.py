"""A record system opens the results of the patient whose chart is open, and nobody else does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette

from consilium.output.reported import reported_study
from hospital.fhir.smart.authorization_server import RecordSystem
from hospital.fhir.smart.smart_launch import CALLBACK, ShownResult, SmartLaunch, StudyWanted
from tests.consilium.tiny_answer import explanation
from tests.hospital.clock import SetClock
from tests.hospital.fhir.smart.smart_server import CLIENT, ISS, PATIENT, SECRET, SmartServer

pytestmark = pytest.mark.anyio
BASE = "https://gateway.example"
RESULT = ShownResult(
    reported_study(explanation().diagnosis, "r1"), datetime(2026, 3, 2, 9, tzinfo=UTC), date(2026, 3, 1)
)
FRAMES = ("https://ehr.example",)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@dataclass
class Site:
    """A gateway that the record system knows."""

    server: SmartServer = field(default_factory=SmartServer)
    clock: SetClock = field(default_factory=SetClock)
    asked: list[tuple[Sequence[tuple[str, str]], StudyWanted]] = field(default_factory=list)
    results: list[ShownResult] = field(default_factory=lambda: [RESULT])

    def __post_init__(self) -> None:
        scopes = ("launch", "patient/Patient.r")
        redirect = f"{BASE}{CALLBACK}"
        system = RecordSystem(ISS, self.server.http, CLIENT, self.server.secret, scopes, redirect, self.clock)
        app = Starlette(routes=SmartLaunch({ISS: system}, self.find, self.clock, FRAMES).routes())
        self.transport = httpx.ASGITransport(app)
        self.browser = self.other_browser()

    def other_browser(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(transport=self.transport, base_url=BASE)

    def find(self, identifiers: Sequence[tuple[str, str]], wanted: StudyWanted) -> list[ShownResult]:
        self.asked.append((identifiers, wanted))
        return self.results

    async def launched(self, **query: str) -> httpx.Response:
        return await self.browser.get("/smart/launch", params={"iss": ISS, "launch": "L1", **query})

    async def returned(self) -> str:
        """The address to which the record system sends the browser back."""
        sent = await self.launched()
        assert sent.status_code == 302
        return self.server.authorize(sent.headers["location"])

    async def shown(self) -> httpx.Response:
        return await self.browser.get(await self.returned())


@pytest.mark.parametrize("secret", [SECRET, None])
async def test_the_results_of_the_open_chart_are_shown_with_whose_they_are(secret: str | None) -> None:
    site = Site(SmartServer(secret=secret))

    page = await site.shown()

    assert page.status_code == 200
    assert site.asked == [([("urn:oid:1.9", "MRN-1")], StudyWanted())]
    assert "<h1>Sample&lt;b&gt;, Anna Maria, born 1960-02-03</h1>" in page.text
    assert "<h2>Study of 2026-03-01</h2>" in page.text
    assert RESULT.reported.findings[0].display in page.text
    assert "<script" not in page.text
    assert page.headers["cache-control"] == "no-store"
    assert "frame-ancestors https://ehr.example" in page.headers["content-security-policy"]
    assert page.headers["referrer-policy"] == "no-referrer"


async def test_no_result_is_said_plainly() -> None:
    site = Site(results=[])
    assert "There is no result of this patient." in (await site.shown()).text


async def test_the_study_that_is_open_in_the_record_system_is_the_one_that_is_shown() -> None:
    site = Site()
    identifiers = [{"system": "urn:dicom:uid", "value": "urn:oid:1.2.840.1"}, {"system": "urn:acsn", "value": "A7"}]
    study = {"resourceType": "ImagingStudy", "id": "s1", "subject": {"reference": "Patient/p1"}}
    site.server.resources["ImagingStudy/s1"] = {**study, "identifier": identifiers}
    site.server.context["fhirContext"] = [{"reference": "ImagingStudy/s1"}, {"reference": "Practitioner/9"}, 7]

    assert (await site.shown()).status_code == 200

    assert site.asked[0][1] == StudyWanted(frozenset({"1.2.840.1"}), frozenset({"A7"}))


@pytest.mark.parametrize(
    ("reference", "resource"),
    [
        ("ImagingStudy/s1", {"subject": {"reference": "Patient/p2"}, "identifier": [{"system": "a", "value": "b"}]}),
        ("ImagingStudy/s1", {"subject": {"reference": "Patient/p1"}}),
        ("ServiceRequest/s1", {"subject": "Patient/p1", "identifier": [{"system": "a", "value": "b"}]}),
    ],
)
async def test_what_is_open_of_somebody_else_or_unnamed_shows_nothing(reference: str, resource: dict[str, Any]) -> None:
    site = Site()
    kind, _, name = reference.partition("/")
    site.server.resources[reference] = {"resourceType": kind, "id": name, **resource}
    site.server.context["fhirContext"] = [{"reference": reference}]

    assert (await site.shown()).status_code == 502
    assert site.asked == []


@pytest.mark.parametrize("query", [{"iss": "https://evil.example/fhir"}, {"iss": f"{ISS}/.."}, {"launch": ""}])
async def test_nothing_is_fetched_of_a_record_system_that_is_not_known(query: dict[str, str]) -> None:
    site = Site()

    answer = await site.launched(**query)

    assert answer.status_code == 400
    assert "location" not in answer.headers
    assert site.server.requests == []


async def test_an_answer_is_taken_once_from_the_browser_that_was_sent_and_in_time() -> None:
    site = Site()
    returned = await site.returned()
    assert (await site.other_browser().get(returned)).status_code == 400

    returned = await site.returned()
    assert (await site.browser.get(returned)).status_code == 200
    assert (await site.browser.get(returned)).status_code == 400

    returned = await site.returned()
    site.clock.move(minutes=11)
    assert (await site.browser.get(returned)).status_code == 400
    forged = f"{BASE}{CALLBACK}?code=code-0&state={'x' * 43}"
    assert (await site.browser.get(forged)).status_code == 400
    assert len(site.asked) == 1


async def test_a_refusal_of_the_record_system_is_not_quoted() -> None:
    site = Site()
    sent = await site.launched()
    state = httpx.URL(sent.headers["location"]).params["state"]

    answer = await site.browser.get(CALLBACK, params={"state": state, "error": "<script>alert(1)</script>"})

    assert answer.status_code == 403
    assert "script" not in answer.text


async def test_the_cookie_is_for_the_callback_alone() -> None:
    cookie = (await Site().launched()).headers["set-cookie"]
    assert {"HttpOnly", "Secure", "SameSite=none", "Path=/smart/callback"} <= set(cookie.split("; "))


@pytest.mark.parametrize(
    "change",
    [
        {"code_challenge_methods_supported": ["plain"]},
        {"token_endpoint": None},
        {"authorization_endpoint": "http://login.ehr.example/authorize"},
    ],
)
async def test_an_authorisation_server_that_is_not_fit_is_not_used(change: dict[str, Any]) -> None:
    site = Site()
    site.server.configuration |= change
    assert (await site.launched()).status_code == 502


@pytest.mark.parametrize(
    ("context", "patient"),
    [
        ({"patient": "p1/../p2"}, PATIENT),
        ({}, PATIENT),
        ({"patient": "p1", "token_type": "mac"}, PATIENT),
        ({"patient": "p1"}, {**PATIENT, "id": "p2"}),
        ({"patient": "p1"}, {**PATIENT, "resourceType": "Group"}),
    ],
)
async def test_a_launch_without_one_certain_patient_shows_nothing(
    context: dict[str, Any], patient: dict[str, Any]
) -> None:
    site = Site()
    site.server.context, site.server.resources["Patient/p1"] = context, patient

    assert (await site.shown()).status_code == 502
    assert site.asked == []


async def test_attempts_that_are_never_finished_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hospital.fhir.smart.smart_launch._MOST_ATTEMPTS", 3)
    site = Site()
    first = await site.returned()
    for _ in range(3):
        last = await site.returned()

    assert (await site.browser.get(first)).status_code == 400
    assert (await site.browser.get(last)).status_code == 200
