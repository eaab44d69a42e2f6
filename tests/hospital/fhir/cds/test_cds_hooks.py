from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from typing import Any
from uuid import uuid4

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from starlette.applications import Starlette

from consilium.domain.errors import ConsiliumError
from consilium.output.reported import reported_study
from hospital.fhir.cds import cds_hooks
from hospital.fhir.cds.cds_cards import StoredResult, card_name, cards
from hospital.fhir.cds.cds_hooks import CardFeedback, CdsHooks
from hospital.fhir.cds.cds_tokens import SeenTokens, TokenCheck, TokenRefused, TrustedIssuer
from tests.consilium.tiny_answer import REFER, eventful_explanation, explanation, open_explanation
from tests.hospital.clock import SetClock
from tests.patience import PATIENCE_S

BASE = "https://gateway.example/fhir"
ISSUER = "https://ehr.example"
KEY_SET = "https://ehr.example/jwks.json"
EC, RSA, OTHER = (
    ec.generate_private_key(ec.SECP384R1()),
    rsa.generate_private_key(65537, 2048),
    ec.generate_private_key(ec.SECP384R1()),
)
CARDS = f"{BASE}/cds-services/consilium-patient-view"
PATIENT = {"resourceType": "Patient", "id": "p1", "identifier": [{"system": "urn:oid:1.9", "value": "MRN-1"}]}
ORDER = {"resourceType": "ServiceRequest", "id": "s1"}
REPORTED = reported_study(explanation().diagnosis, "r1")


class Site:
    """A gateway with one patient who has a result."""

    def __init__(self) -> None:
        self.clock = SetClock()
        self.asked: list[Sequence[tuple[str, str]]] = []
        self.fed_back: list[CardFeedback] = []
        keys = {"ec": EC.public_key(), "rsa": RSA.public_key()}
        algorithms = {"ec": "ES384", "rsa": "RS384"}

        async def find(name: str) -> jwt.PyJWK | None:
            if name not in keys:
                return None
            algorithm = jwt.get_algorithm_by_name(algorithms[name])
            return jwt.PyJWK({**algorithm.to_jwk(keys[name], as_dict=True), "alg": algorithms[name]})

        tokens = TokenCheck({ISSUER: TrustedIssuer(find, KEY_SET)}, self.clock)
        self.hooks = CdsHooks(BASE, tokens, self.look_up, self.fed_back.extend)
        self.app = Starlette(routes=self.hooks.routes)

    def look_up(self, identifiers: Sequence[tuple[str, str]]) -> list[StoredResult]:
        self.asked.append(identifiers)
        found = StoredResult(REPORTED, date(2024, 5, 1), "https://gateway.example/r", "https://gateway.example/launch")
        return [found] if ("urn:oid:1.9", "MRN-1") in identifiers else []

    def token(self, url: str = CARDS, *, key: Any = EC, head: dict[str, Any] | None = None, **claims: Any) -> str:
        now = int(self.clock().timestamp())
        whole = {"iss": ISSUER, "aud": url, "iat": now, "exp": now + 300, "jti": str(uuid4()), **claims}
        payload = json.dumps({name: value for name, value in whole.items() if value is not None}).encode()
        heads = {"alg": "ES384", "kid": "ec", **(head or {})}
        heads = {name: value for name, value in heads.items() if value is not None}
        return jwt.PyJWS().encode(payload, key, heads.pop("alg"), heads)

    def post(self, path: str, body: Any, token: str | None = None, **content: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {token or self.token(BASE + path)}"}
        given = content or {"json": body}

        async def run() -> httpx.Response:
            transport = httpx.ASGITransport(self.app)
            async with httpx.AsyncClient(transport=transport, base_url="http://any-host") as client:
                return await client.post(path, headers=headers, **given)

        return asyncio.run(run())

    def get(self, path: str) -> httpx.Response:
        async def run() -> httpx.Response:
            async with httpx.AsyncClient(transport=httpx.ASGITransport(self.app), base_url="http://any-host") as client:
                return await client.get(path)

        return asyncio.run(run())


@pytest.fixture
def site() -> Site:
    return Site()


def request(hook: str = "patient-view", **changes: Any) -> dict[str, Any]:
    context = {"patientId": "p1", "userId": "Practitioner/1"}
    if hook != "patient-view":
        context |= {"draftOrders": {"resourceType": "Bundle", "entry": [{"resource": ORDER}]}}
    if hook == "order-select":
        context |= {"selections": ["ServiceRequest/s1"]}
    return {"hook": hook, "hookInstance": str(uuid4()), "context": context, "prefetch": {"patient": PATIENT}, **changes}


def test_discovery_lists_three_services_with_what_they_need(site):
    services = site.get("/cds-services").json()["services"]
    assert [one["hook"] for one in services] == ["patient-view", "order-select", "order-sign"]
    assert {one["id"] for one in services} == {f"consilium-{one['hook']}" for one in services}
    assert all(one["prefetch"] == {"patient": "Patient/{{context.patientId}}"} for one in services)


@pytest.mark.parametrize("hook", ["patient-view", "order-sign", "order-select"])
def test_card_shows_the_result_of_the_patient_of_the_chart(site, hook):
    answer = site.post(f"/cds-services/consilium-{hook}", request(hook))
    assert answer.status_code == 200
    (card,) = answer.json()["cards"]
    assert card["summary"] == "Study of 2024-05-01: Beta present (model, preliminary)"
    assert (card["indicator"], card["uuid"]) == ("warning", card_name(REPORTED))
    assert [link["type"] for link in card["links"]] == ["absolute", "smart"]
    assert "appContext" not in card["links"][0]
    assert site.asked == [[("urn:oid:1.9", "MRN-1")]]


def test_patient_without_results_has_no_card(site):
    other = {**PATIENT, "identifier": [{"system": "urn:oid:1.8", "value": "MRN-1"}]}
    answer = site.post("/cds-services/consilium-patient-view", request(prefetch={"patient": other}))
    assert answer.json() == {"cards": []}


@pytest.mark.parametrize(
    "identifier",
    [
        [],
        [{"value": "MRN-1"}],
        [{"system": "urn:oid:1.9"}],
        [{"system": "urn:oid:1.9", "value": "MRN-1", "use": "old"}],
        "MRN-1",
        [7],
    ],
)
def test_nobody_is_looked_up_without_a_current_identifier_and_its_system(site, identifier):
    body = request(prefetch={"patient": {**PATIENT, "identifier": identifier}})
    assert site.post("/cds-services/consilium-patient-view", body).json() == {"cards": []}
    assert site.asked == []


def test_orders_of_other_kinds_and_what_is_not_selected_give_no_card(site):
    medication = {"resourceType": "Bundle", "entry": [{"resource": {"resourceType": "MedicationRequest", "id": "s1"}}]}
    sign = request("order-sign")
    sign["context"]["draftOrders"] = medication
    select = request("order-select")
    select["context"]["selections"] = ["ServiceRequest/other"]
    assert site.post("/cds-services/consilium-order-sign", sign).json() == {"cards": []}
    assert site.post("/cds-services/consilium-order-select", select).json() == {"cards": []}


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"prefetch": {}}, 412),
        ({"prefetch": None}, 412),
        ({"prefetch": {"patient": {"resourceType": "OperationOutcome"}}}, 412),
        ({"prefetch": {"patient": {**PATIENT, "id": "p2"}}}, 412),
        ({"prefetch": {"patient": None}}, 200),
        ({"hook": "order-sign"}, 400),
        ({"hookInstance": "1"}, 400),
        ({"hookInstance": None}, 400),
        ({"context": {}}, 400),
        ({"context": []}, 400),
    ],
)
def test_request_that_lacks_something_is_refused_by_the_status_of_the_specification(site, changes, status):
    answer = site.post("/cds-services/consilium-patient-view", request(**changes))
    assert answer.status_code == status
    assert site.asked == []


@pytest.mark.parametrize(
    ("content", "status"),
    [(b"", 400), (b"[]", 400), (b"{" * 100_000, 400), (b"[" * 100_000, 400), (b" " * (1 << 20) + b"{}", 413)],
)
def test_body_that_is_no_small_json_object_is_refused(site, content, status):
    assert site.post("/cds-services/consilium-patient-view", None, content=content).status_code == status


def test_unknown_service_is_not_there(site):
    for name in ("patient-view", "consilium-", "consilium-appointment-book"):
        assert site.post(f"/cds-services/{name}", request()).status_code == 404


@pytest.mark.parametrize(
    "change",
    [
        {"iss": "https://evil.example"},
        {"iss": None},
        {"iss": ["https://ehr.example"]},
        {"url": f"{BASE}/cds-services/consilium-order-sign"},
        {"url": "http://any-host/cds-services/consilium-patient-view"},
        {"aud": None},
        {"exp": None},
        {"iat": None},
        {"jti": None},
        {"jti": 7},
        {"jti": "x" * 300},
        {"head": {"kid": "other"}},
        {"head": {"kid": None}},
        {"head": {"jku": "https://evil.example/jwks.json"}},
        {"key": OTHER},
        {"key": "secret" * 20, "head": {"alg": "HS384"}},
        {"key": None, "head": {"alg": "none"}},
        {"key": RSA, "head": {"alg": "RS256", "kid": "rsa"}},
    ],
)
def test_token_that_proves_nothing_is_refused(site, change):
    assert site.post("/cds-services/consilium-patient-view", request(), site.token(**change)).status_code == 401
    assert site.asked == []


@pytest.mark.parametrize(("begun", "life"), [(-400, 300), (100, 300), (0, 3600), (-10_000, 300)])
def test_token_that_ended_has_not_begun_or_lives_too_long_is_refused(site, begun, life):
    now = int(site.clock().timestamp())
    token = site.token(iat=now + begun, exp=now + begun + life)
    assert site.post("/cds-services/consilium-patient-view", request(), token).status_code == 401


def test_rsa_key_and_a_listed_key_set_are_taken(site):
    token = site.token(key=RSA, head={"alg": "RS384", "kid": "rsa", "jku": KEY_SET})
    assert site.post("/cds-services/consilium-patient-view", request(), token).status_code == 200


def test_token_is_taken_once(site):
    token = site.token()
    statuses = [site.post("/cds-services/consilium-patient-view", request(), token).status_code for _ in range(2)]
    assert statuses == [200, 401]


def test_token_from_before_the_start_is_refused_because_it_may_have_been_used():
    first = Site()
    first.clock.move(seconds=100)
    now = int(first.clock().timestamp())
    token = first.token(iat=now - 200, exp=now + 50)
    with pytest.raises(TokenRefused, match="before the start"):
        asyncio.run(first.hooks.tokens.check(f"Bearer {token}", CARDS))


def test_memory_of_tokens_is_bounded_and_forgets_those_that_ended():
    seen = SeenTokens(most=2)
    for name in ("a", "b"):
        seen.take("i", name, end=10, now=0)
    with pytest.raises(TokenRefused, match="too many"):
        seen.take("i", "c", end=10, now=0)
    seen.take("i", "c", end=30, now=11)
    seen.take("i", "a", end=30, now=11)


@pytest.mark.parametrize("given", [None, "", "Basic x", "Bearer", "Bearer x.y.z", "Bearer " + "x" * 9000])
def test_what_is_no_token_is_refused(site, given):
    with pytest.raises(ConsiliumError):
        asyncio.run(site.hooks.tokens.check(given, CARDS))


def test_look_up_that_takes_too_long_is_given_up(site, monkeypatch):
    waiting = threading.Event()
    monkeypatch.setattr(cds_hooks, "LONGEST_LOOKUP_S", 0.05)
    hooks = CdsHooks(BASE, site.hooks.tokens, lambda _: [waiting.wait(PATIENCE_S)][1:], site.fed_back.extend)
    app = Starlette(routes=hooks.routes)

    async def answered_while_it_waits(*connection: Any) -> None:
        await app(*connection)
        waiting.set()

    site.app = answered_while_it_waits
    assert site.post("/cds-services/consilium-patient-view", request()).status_code == 503


def test_feedback_is_taken_without_the_words_of_users(site):
    path = "/cds-services/consilium-patient-view/feedback"
    override = {"reason": {"code": "seen", "system": "urn:x"}, "userComment": "Mr Quux has it already"}
    given = [
        {"card": card_name(REPORTED), "outcome": "accepted", "acceptedSuggestions": []},
        {"card": card_name(REPORTED), "outcome": "overridden", "overrideReason": override},
    ]
    assert site.post(path, {"feedback": given}).status_code == 200
    assert site.fed_back == [
        CardFeedback(card_name(REPORTED), "accepted", None),
        CardFeedback(card_name(REPORTED), "overridden", "seen"),
    ]


@pytest.mark.parametrize(
    "given", [None, [], [{}], [{"card": "1", "outcome": "accepted"}], [{"card": str(uuid4()), "outcome": "x"}], ["a"]]
)
def test_malformed_feedback_is_refused(site, given):
    assert site.post("/cds-services/consilium-patient-view/feedback", {"feedback": given}).status_code == 400
    assert site.fed_back == []


def test_referral_stands_before_the_findings_on_a_card():
    (card,) = cards([StoredResult(reported_study(eventful_explanation().diagnosis, "r"), None)])["cards"]
    assert card["summary"] == "Imaging study: the model refers it, assess without it"
    assert card["indicator"] == "info"
    assert card["detail"].index(REFER[0].split()[1]) < card["detail"].index("Alpha")
    assert "links" not in card


def test_undetermined_finding_is_counted_and_not_called_present():
    (card,) = cards([StoredResult(reported_study(open_explanation().diagnosis, "r"), None)])["cards"]
    assert card["summary"] == "Imaging study: nothing certain, 1 undetermined (model, preliminary)"


def test_summary_stays_below_140_characters_and_detail_escapes_markdown():
    odd = replace(REPORTED.findings[1], display="[x](http://evil.example) <b>|*")
    many = replace(REPORTED, findings=tuple(replace(odd, name=f"f{i}") for i in range(30)))
    (card,) = cards([StoredResult(many, date(2024, 5, 1))])["cards"]
    assert card["summary"] == "Study of 2024-05-01: 30 findings present"
    assert "\\[x\\]\\(http://evil\\.example\\) \\<b\\>\\|\\*" in card["detail"]
