from __future__ import annotations

import asyncio
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from hospital.fhir.cds.key_sets import KeySet
from tests.hospital.clock import SetClock

EC = ec.generate_private_key(ec.SECP384R1()).public_key()
SMALL = ec.generate_private_key(ec.SECP256R1()).public_key()
RSA = rsa.generate_private_key(65537, 2048).public_key()


def public(key: Any, algorithm: str, **more: Any) -> dict[str, Any]:
    return {**jwt.get_algorithm_by_name(algorithm).to_jwk(key, as_dict=True), **more}


class Issuer:
    """Publishes keys, and counts how often they are asked for."""

    def __init__(self, *keys: Any, status: int = 200) -> None:
        self.keys, self.status, self.asked = list(keys), status, 0
        self.clock = SetClock()
        http = httpx.AsyncClient(transport=httpx.MockTransport(self.answer))
        self.find = KeySet(http, "https://ehr.example/jwks.json", self.clock)

    def answer(self, request: httpx.Request) -> httpx.Response:
        self.asked += 1
        return httpx.Response(self.status, json={"keys": self.keys})

    def has(self, name: str) -> bool:
        return asyncio.run(self.find(name)) is not None


def test_keys_that_may_sign_are_found_by_their_ids():
    issuer = Issuer(public(EC, "ES384", kid="e"), public(RSA, "RS384", kid="r"))
    assert issuer.has("e")
    assert issuer.has("r")
    assert issuer.asked == 1


@pytest.mark.parametrize(
    "key",
    [
        public(SMALL, "ES256", kid="k"),
        public(RSA, "RS384", kid="k", alg="RS256"),
        public(EC, "ES384", kid="k", use="enc"),
        public(EC, "ES384"),
        {"kty": "oct", "k": "c2VjcmV0", "kid": "k"},
        {"kty": "EC", "crv": "P-384", "kid": "k"},
        7,
    ],
)
def test_other_keys_are_passed_over(key):
    issuer = Issuer(key, public(EC, "ES384", kid="good"))
    assert issuer.has("good")
    assert not issuer.has("k")


def test_unknown_id_is_asked_for_twice_a_minute_at_most():
    issuer = Issuer(public(EC, "ES384", kid="e"))
    assert [issuer.has(name) for name in ("e", "x", "y", "z")] == [True, False, False, False]
    assert issuer.asked == 1
    issuer.keys.append(public(EC, "ES384", kid="x"))
    issuer.clock.move(seconds=31)
    assert issuer.has("x")
    assert issuer.asked == 2


def test_keys_are_fetched_anew_after_an_hour_and_withdrawn_ones_are_gone():
    issuer = Issuer(public(EC, "ES384", kid="e"))
    assert issuer.has("e")
    issuer.keys.clear()
    issuer.clock.move(minutes=61)
    assert not issuer.has("e")


def test_known_keys_are_used_on_where_the_issuer_gives_no_answer():
    issuer = Issuer(public(EC, "ES384", kid="e"))
    assert issuer.has("e")
    issuer.status = 503
    issuer.clock.move(minutes=61)
    assert issuer.has("e")
    assert issuer.asked == 2
