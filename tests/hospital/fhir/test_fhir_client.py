from __future__ import annotations

import logging
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from consilium.domain.errors import InputError
from hospital.fhir.backend_token import BackendToken, NotAuthorised, SigningKey
from hospital.fhir.fhir_client import FhirClient, FhirFault, FhirLimits
from tests.hospital.fhir.stub_server import BASE, StubServer, observation, outcome

pytestmark = pytest.mark.anyio

LABORATORY = (("patient", "p1"), ("category", "laboratory"))


class Waits:
    """What was slept, instead of sleeping."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.slept.append(seconds)


def client(server: StubServer, waits: Waits | None = None, **limits: float) -> FhirClient:
    return FhirClient(BASE, server.http, limits=FhirLimits(**limits), sleep=waits or Waits())  # type: ignore[arg-type]


async def found(reader: FhirClient, parameters: tuple[tuple[str, str], ...] = LABORATORY) -> list[str]:
    return [one["id"] async for one in reader.search("Observation", parameters)]


async def test_pages_are_followed_to_the_end() -> None:
    server = StubServer(*(observation(str(number)) for number in range(5)))
    assert await found(client(server)) == ["0", "1", "2", "3", "4"]
    assert server.asked == {"Observation": 3}
    assert [request.url.params.get("_count") for request in server.requests] == ["200"] * 3


async def test_a_search_without_a_category_is_refused_as_epic_does_and_its_text_is_not_repeated() -> None:
    with pytest.raises(FhirFault) as fault:
        await found(client(StubServer()), (("patient", "p1"),))
    assert (str(fault.value), fault.value.status, fault.value.transient) == ("answered 400 required", 400, False)


@pytest.mark.parametrize(
    ("header", "wait"), [("7", 7.0), ("", None), ("soon", None), ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0)]
)
async def test_a_busy_server_is_waited_for_as_long_as_it_says(header: str, wait: float | None) -> None:
    server, waits = StubServer(observation("1")), Waits()
    server.faults = [httpx.Response(429, headers={"Retry-After": header})]
    assert await found(client(server, waits)) == ["1"]
    assert waits.slept == [wait] if wait is not None else 1.0 <= waits.slept[0] <= 2.0


async def test_a_server_that_asks_for_too_long_a_pause_is_left() -> None:
    server, waits = StubServer(observation("1")), Waits()
    server.faults = [httpx.Response(503, headers={"Retry-After": "3600"})]
    with pytest.raises(FhirFault, match="to be asked again in 3600 s") as fault:
        await found(client(server, waits))
    assert (fault.value.transient, waits.slept) == (True, [])


async def test_faults_of_the_server_and_the_network_are_tried_again_with_growing_pauses() -> None:
    server, waits = StubServer(observation("1")), Waits()
    server.faults = [httpx.Response(502), httpx.ConnectError("refused"), httpx.ReadTimeout("late")]
    assert await found(client(server, waits)) == ["1"]
    assert [low <= slept <= 2 * low for slept, low in zip(waits.slept, (1, 2, 4), strict=True)] == [True] * 3


async def test_a_server_that_stays_down_is_a_transient_fault() -> None:
    server = StubServer()
    server.faults = [httpx.Response(500)] * 4
    with pytest.raises(FhirFault, match="answered 500, 4 times") as fault:
        await found(client(server))
    assert fault.value.transient


async def test_a_page_that_is_gone_starts_the_search_anew() -> None:
    server = StubServer(*(observation(str(number)) for number in range(3)))
    await found(client(server))
    server.gone = {str(server.requests[1].url)}
    assert await found(client(server)) == ["0", "1", "0", "1", "2"]


async def test_a_search_that_is_gone_for_good_is_a_fault() -> None:
    server = StubServer()
    server.faults = [httpx.Response(410, json=outcome("deleted", "x"))] * 2
    with pytest.raises(FhirFault, match="answered 410 deleted"):
        await found(client(server))


async def test_pages_and_answers_are_bounded() -> None:
    server = StubServer(*(observation(str(number)) for number in range(9)))
    with pytest.raises(FhirFault, match="more than 3 pages"):
        await found(client(server, pages=3))
    with pytest.raises(FhirFault, match="the answer is larger than 100 bytes"):
        await found(client(server, answer_bytes=100))


@pytest.mark.parametrize(
    ("link", "reason"),
    [
        ("https://elsewhere.example/r4/Observation?page=2", "a link leads to another server"),
        ("http://fhir.example/r4/Observation?page=2", "a link leads to another server"),
        (f"{BASE}/Observation?page=2", "the server's pages lead in a circle"),
    ],
)
async def test_links_lead_nowhere_else_and_not_in_circles(link: str, reason: str) -> None:
    server = StubServer()
    page = {"resourceType": "Bundle", "link": [{"relation": "next", "url": link}]}
    server.faults = [httpx.Response(200, json=page) for _ in range(5)]
    with pytest.raises(FhirFault, match=reason):
        await found(client(server))


@pytest.mark.parametrize("body", [b"", b"[]", b"<html>", b'{"resourceType": "Patient"}', b"[" * 100_000, b"\xff"])
async def test_what_is_no_bundle_is_a_fault(body: bytes) -> None:
    server = StubServer()
    server.faults = [httpx.Response(200, content=body)]
    with pytest.raises(FhirFault, match="the answer is no"):
        await found(client(server))


async def test_entries_of_any_shape_are_passed_over() -> None:
    server = StubServer()
    entries = [
        None,
        1,
        {},
        {"resource": None},
        {"resource": {"resourceType": "Patient"}},
        {"resource": observation("1")},
    ]
    server.faults = [httpx.Response(200, json={"resourceType": "Bundle", "entry": entries, "link": "x"})]
    assert await found(client(server)) == ["1"]


async def test_no_url_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        await found(client(StubServer(observation("1"))), (*LABORATORY, ("identifier", "urn:mrn|4711")))
    assert caplog.records == []


EC_KEY = ec.generate_private_key(ec.SECP384R1())
RSA_KEY = rsa.generate_private_key(65537, 2048)
NOW = datetime(2020, 3, 1, 12, tzinfo=UTC)


def pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> str:
    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode()


class Authorisation:
    """A SMART authorisation server beside a FHIR server that wants its tokens."""

    def __init__(self, fhir: StubServer, key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey = EC_KEY) -> None:
        self.fhir, self.key = fhir, key
        self.claims: list[dict[str, object]] = []
        self.headers: list[dict[str, object]] = []
        self.forms: list[dict[str, str]] = []
        self.valid = ""
        self.refuse = False

    @property
    def http(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(transport=httpx.MockTransport(self.answer))

    def answer(self, request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/.well-known/smart-configuration"):
            return httpx.Response(200, json={"token_endpoint": "https://auth.example/token"})
        if request.url.host == "auth.example":
            return self._token(request)
        if request.headers.get("Authorization") != f"Bearer {self.valid}":
            return httpx.Response(401)
        return self.fhir.answer(request)

    def _token(self, request: httpx.Request) -> httpx.Response:
        if self.refuse:
            return httpx.Response(400, json={"error": "invalid_client"})
        form = dict(httpx.QueryParams(request.content.decode()))
        assertion = form["client_assertion"]
        self.headers.append(jwt.get_unverified_header(assertion))
        checked = {"verify_exp": False, "verify_iat": False}
        audience, algorithms = "https://auth.example/token", ["ES384", "RS384"]
        self.claims.append(jwt.decode(assertion, self.key.public_key(), algorithms, checked, audience=audience))
        self.forms.append(form)
        self.valid = f"token-{len(self.claims)}"
        return httpx.Response(200, json={"access_token": self.valid, "token_type": "Bearer", "expires_in": 300})


def authorised(server: Authorisation, now: list[datetime]) -> FhirClient:
    key = SigningKey.read(pem(server.key), "key-1")
    token = BackendToken(server.http, BASE, "consilium", key, clock=lambda: now[0])
    return FhirClient(BASE, server.http, token, sleep=Waits())


@pytest.mark.parametrize(("key", "algorithm"), [(EC_KEY, "ES384"), (RSA_KEY, "RS384")])
async def test_a_token_is_asked_for_with_a_signed_assertion(
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey, algorithm: str
) -> None:
    server = Authorisation(StubServer(observation("1")), key)
    assert await found(authorised(server, [NOW])) == ["1"]
    (claims,), (header,), (form,) = server.claims, server.headers, server.forms
    assert (header["alg"], header["kid"]) == (algorithm, "key-1")
    assert claims["iss"] == claims["sub"] == "consilium"
    assert 0 < int(str(claims["exp"])) - NOW.timestamp() <= 300
    assert (form["grant_type"], form["scope"]) == ("client_credentials", "system/*.rs")
    assert form["client_assertion_type"] == "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


async def test_a_token_is_used_until_shortly_before_its_end() -> None:
    server, now = Authorisation(StubServer(observation("1"))), [NOW]
    reader = authorised(server, now)
    for later in (0, 100, 269):
        now[0] = NOW + timedelta(seconds=later)
        await found(reader)
    assert len(server.claims) == 1
    now[0] = NOW + timedelta(seconds=271)
    await found(reader)
    assert len({str(claims["jti"]) for claims in server.claims}) == 2


async def test_a_token_that_is_refused_is_renewed_once() -> None:
    server = Authorisation(StubServer(observation("1")))
    reader = authorised(server, [NOW])
    await found(reader)
    server.valid = "revoked"
    assert await found(reader) == ["1"]
    assert len(server.claims) == 2


async def test_a_refused_client_is_a_fault_without_its_assertion() -> None:
    server = Authorisation(StubServer())
    server.refuse = True
    with pytest.raises(FhirFault, match=r"^authorisation was answered 400$"):
        await found(authorised(server, [NOW]))


async def test_a_token_endpoint_without_tls_is_not_used() -> None:
    answers = httpx.MockTransport(lambda _: httpx.Response(200, json={"token_endpoint": "http://auth.example/token"}))
    token = BackendToken(httpx.AsyncClient(transport=answers), BASE, "consilium", SigningKey(EC_KEY, "1"))
    with pytest.raises(NotAuthorised, match="names no token endpoint"):
        await token.token()


@pytest.mark.parametrize("key", ["", "secret", pem(ec.generate_private_key(ec.SECP256R1()))])
def test_another_key_is_refused_without_showing_it(key: str) -> None:
    with pytest.raises(InputError, match="must be a private key in PEM") as error:
        SigningKey.read(key, "1")
    assert "secret" not in str(error.value)
    assert "secret" not in repr(replace(SigningKey(EC_KEY, "1"), key_id="2"))
