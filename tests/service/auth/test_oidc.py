from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from service.auth.caller import Unauthenticated
from service.auth.issuer_keys import IssuerKeys
from service.auth.oidc import TokenReader, Trust
from service.http.problems import Unavailable
from service.scopes import Scope
from tests.patience import PATIENCE_S
from tests.service.auth.issuer import AUDIENCE, Issuer, ec_key, public_jwk, rsa_key

FIRST, SECOND = rsa_key(), rsa_key()


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    with Issuer(first=FIRST) as issuer:
        yield issuer


def reading(issuer: Issuer, ask: Callable[[TokenReader], Awaitable[Any]], clock: Clock | None = None) -> Any:
    """What `ask` gives of a reader that trusts `issuer`."""

    async def go() -> Any:
        keys = IssuerKeys(issuer.url, clock=clock or Clock())
        try:
            return await ask(TokenReader(Trust(issuer.url, AUDIENCE), keys))
        finally:
            await keys.stop()

    return asyncio.run(asyncio.wait_for(go(), PATIENCE_S))


async def refused(reader: TokenReader, token: str) -> None:
    with pytest.raises(Unauthenticated):
        await reader.caller(token)


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def by_hand(header: dict[str, Any], claims: dict[str, Any], sign: Callable[[bytes], bytes]) -> str:
    signed = f"{b64(json.dumps(header).encode())}.{b64(json.dumps(claims).encode())}"
    return f"{signed}.{b64(sign(signed.encode()))}"


def test_a_good_token_names_its_subject_and_scopes(issuer: Issuer) -> None:
    token = issuer.token(scope="openid read diagnose email")
    caller = reading(issuer, lambda reader: reader.caller(token))
    assert caller.name == "oidc:dr-house"
    assert caller.scopes == {Scope.READ, Scope.DIAGNOSE}


def test_one_audience_of_several_is_enough_and_elliptic_curves_are_known(issuer: Issuer) -> None:
    issuer.keys["curve"] = ec_key()
    token = issuer.token("curve", aud=["elsewhere", AUDIENCE])
    assert reading(issuer, lambda reader: reader.caller(token)).scopes == {Scope.READ}


@pytest.mark.parametrize(
    "claims",
    [
        {"iss": "http://127.0.0.1:1"},
        {"iss": None},
        {"aud": "elsewhere"},
        {"aud": None},
        {"exp": 1_000_000_000},
        {"exp": None},
        {"exp": "tomorrow"},
        {"nbf": 9_000_000_000},
        {"sub": None},
        {"sub": ""},
        {"sub": "a\nb"},
        {"sub": "x" * 256},
        {"sub": 7},
    ],
    ids=str,
)
def test_a_token_with_a_wrong_claim_is_refused(issuer: Issuer, claims: dict[str, Any]) -> None:
    if claims.get("sub") == 7:
        claims_ = {"iss": issuer.url, "aud": AUDIENCE, "sub": 7, "exp": int(time.time()) + 300}
        token = by_hand({"alg": "RS256", "kid": "first"}, claims_, _rs256)
    else:
        token = issuer.token(**claims)
    reading(issuer, lambda reader: refused(reader, token))


def _rs256(data: bytes) -> bytes:
    return FIRST.sign(data, padding.PKCS1v15(), hashes.SHA256())


def test_a_token_that_ended_seconds_ago_is_taken_for_clocks_differ(issuer: Issuer) -> None:
    token = issuer.token(exp=int(time.time()) - 10)
    assert reading(issuer, lambda reader: reader.caller(token)).name == "oidc:dr-house"
    reading(issuer, lambda reader: refused(reader, issuer.token(exp=int(time.time()) - 60)))


def test_no_algorithm_but_the_key_s_own_passes(issuer: Issuer) -> None:
    """``none``, and the public key, which everybody has, used as the secret of an HMAC."""
    claims = {"iss": issuer.url, "aud": AUDIENCE, "sub": "mallory", "exp": int(time.time()) + 300, "scope": "admin"}
    public = FIRST.public_key()
    pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    secrets = [pem, pem.strip(), json.dumps(public_jwk("first", FIRST)).encode(), b""]

    async def go(reader: TokenReader) -> None:
        for alg in ("none", "None", "NONE", ""):
            await refused(reader, by_hand({"alg": alg, "kid": "first"}, claims, lambda _: b""))
        for secret in secrets:
            for alg in ("HS256", "RS256"):
                forged = by_hand(
                    {"alg": alg, "kid": "first"}, claims, lambda data, s=secret: hmac.digest(s, data, hashlib.sha256)
                )
                await refused(reader, forged)
        await refused(reader, issuer.token(algorithm="PS256"))
        await refused(reader, by_hand({"alg": "RS256", "kid": "first", "jwk": {"kty": "oct"}}, claims, lambda _: b"x"))

    reading(issuer, go)


def test_a_token_signed_by_another_key_under_a_known_name_is_refused(issuer: Issuer) -> None:
    reading(issuer, lambda reader: refused(reader, issuer.token(key=SECOND)))


def test_a_token_that_was_altered_is_refused(issuer: Issuer) -> None:
    header, _, signature = issuer.token().split(".")
    claims = {"iss": issuer.url, "aud": AUDIENCE, "sub": "x", "exp": int(time.time()) + 300, "scope": "admin"}
    forged = f"{header}.{b64(json.dumps(claims).encode())}.{signature}"
    reading(issuer, lambda reader: refused(reader, forged))


@pytest.mark.parametrize("token", ["", "x", "a.b", "a.b.c", "....", "é.é.é", "x" * 20_000, b64(b"[]") + ".e30.e30"])
def test_what_is_no_token_is_refused_without_asking_the_issuer(issuer: Issuer, token: str) -> None:
    reading(issuer, lambda reader: refused(reader, token))
    assert issuer.fetched == []


@pytest.mark.parametrize("kid", [None, 7, ["first"]])
def test_a_token_that_names_no_key_is_refused(issuer: Issuer, kid: Any) -> None:
    claims = {"iss": issuer.url, "aud": AUDIENCE, "sub": "x", "exp": int(time.time()) + 300}
    token = by_hand({"alg": "RS256", "kid": kid}, claims, _rs256)
    reading(issuer, lambda reader: refused(reader, token))
    assert issuer.fetched == []


def test_unknown_keys_make_the_issuer_be_asked_once_in_an_interval(issuer: Issuer) -> None:
    clock = Clock()

    async def go(reader: TokenReader) -> None:
        await reader.caller(issuer.token())
        for number in range(5):
            await refused(reader, issuer.token(f"unknown-{number}", key=SECOND))
        assert issuer.fetched.count("/keys") == 1
        clock.now += 11
        await asyncio.gather(*(refused(reader, issuer.token(f"unknown-{n}", key=SECOND)) for n in range(5)))
        assert issuer.fetched.count("/keys") == 2

    reading(issuer, go, clock)


def test_a_new_key_of_the_issuer_is_found_and_a_withdrawn_one_forgotten(issuer: Issuer) -> None:
    clock = Clock()

    async def go(reader: TokenReader) -> None:
        old = issuer.token()
        await reader.caller(old)
        issuer.keys = {"second": SECOND}
        clock.now += 11
        assert (await reader.caller(issuer.token("second"))).name == "oidc:dr-house"
        await refused(reader, old)

    reading(issuer, go, clock)


def test_old_keys_are_read_again_while_they_still_serve(issuer: Issuer) -> None:
    clock = Clock()

    async def go(reader: TokenReader) -> None:
        token = issuer.token()
        await reader.caller(token)
        issuer.keys = {"second": SECOND}
        clock.now += 301
        await reader.caller(token)
        async with asyncio.timeout(PATIENCE_S):
            while issuer.fetched.count("/keys") < 2 or await _still_taken(reader, token):
                await asyncio.sleep(0.01)

    reading(issuer, go, clock)


async def _still_taken(reader: TokenReader, token: str) -> bool:
    try:
        await reader.caller(token)
    except Unauthenticated:
        return False
    return True


def test_an_issuer_that_is_down_at_first_makes_tokens_uncheckable_not_invalid(issuer: Issuer) -> None:
    clock = Clock()

    async def go(reader: TokenReader) -> None:
        issuer.down = True
        for _ in range(3):
            with pytest.raises(Unavailable) as caught:
                await reader.caller(issuer.token())
        assert caught.value.retry_after_s == 10
        assert len(issuer.fetched) == 1
        issuer.down = False
        clock.now += 11
        assert (await reader.caller(issuer.token())).name == "oidc:dr-house"

    reading(issuer, go, clock)


def test_an_issuer_that_goes_down_is_believed_for_a_day(issuer: Issuer) -> None:
    clock = Clock()

    async def go(reader: TokenReader) -> None:
        token = issuer.token()
        await reader.caller(token)
        issuer.down = True
        clock.now += 86_000
        assert (await reader.caller(token)).name == "oidc:dr-house"
        await refused(reader, issuer.token("second", key=SECOND))
        clock.now += 500
        with pytest.raises(Unavailable):
            await reader.caller(token)

    reading(issuer, go, clock)


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        ("/.well-known/openid-configuration", {"issuer": "http://127.0.0.1:1", "jwks_uri": "http://127.0.0.1:1/keys"}),
        ("/.well-known/openid-configuration", {"jwks_uri": 7}),
        ("/.well-known/openid-configuration", []),
        ("/keys", {}),
        ("/keys", {"keys": 7}),
        ("/keys", {"keys": [7, {"kty": "RSA"}, {"kty": "oct", "k": "AAAA"}]}),
        ("/keys", {"keys": [{"kty": "RSA", "kid": "first", "n": "!", "e": "!"}]}),
        ("/keys", ["x" * (1 << 20)]),
    ],
    ids=lambda part: json.dumps(part)[:60],
)
def test_an_issuer_that_publishes_something_else_is_as_good_as_down(
    issuer: Issuer, path: str, answer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = issuer.answers() | {path: answer}
    monkeypatch.setattr(issuer, "answers", lambda: answers)

    async def go(reader: TokenReader) -> None:
        with pytest.raises(Unavailable):
            await reader.caller(issuer.token())

    reading(issuer, go)


def test_keys_in_an_answer_that_is_too_large_are_not_read(issuer: Issuer, monkeypatch: pytest.MonkeyPatch) -> None:
    published = issuer.answers()
    published["/keys"]["padding"] = "x" * (1 << 20)
    monkeypatch.setattr(issuer, "answers", lambda: published)

    async def go(reader: TokenReader) -> None:
        with pytest.raises(Unavailable):
            await reader.caller(issuer.token())

    reading(issuer, go)


def test_a_key_for_encryption_signs_nothing(issuer: Issuer, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = issuer.answers()
    answers["/keys"]["keys"] = [public_jwk("first", FIRST) | {"use": "enc"}, public_jwk("second", SECOND)]
    monkeypatch.setattr(issuer, "answers", lambda: answers)
    reading(issuer, lambda reader: refused(reader, issuer.token()))


def test_a_key_that_is_too_short_is_refused(issuer: Issuer) -> None:
    issuer.keys["short"] = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    reading(issuer, lambda reader: refused(reader, issuer.token("short")))


READERS = {"radiologists": frozenset({Scope.READ, Scope.DIAGNOSE}), "prometheus": frozenset({Scope.METRICS})}


@pytest.mark.parametrize(
    ("claims", "claim", "granted", "scopes"),
    [
        ({"scope": "radiologists admin"}, "scope", READERS, {Scope.READ, Scope.DIAGNOSE}),
        ({"scope": ["radiologists", "prometheus", 7]}, "scope", READERS, {Scope.READ, Scope.DIAGNOSE, Scope.METRICS}),
        ({"scope": "admin", "realm": {"roles": ["prometheus"]}}, "realm.roles", READERS, {Scope.METRICS}),
        ({"https://h.example/roles": ["admin"]}, "https://h.example/roles", {}, {Scope.ADMIN}),
        ({"scope": None}, "scope", {}, set()),
        ({"scope": {"read": True}}, "scope", {}, set()),
        ({"scope": "Read ADMIN"}, "scope", {}, set()),
        ({"scope": "read"}, "realm.roles.deep", {}, set()),
    ],
)
def test_scopes_and_roles_are_mapped_to_ours(
    claims: dict[str, Any], claim: str, granted: dict[str, frozenset[Scope]], scopes: set[Scope]
) -> None:
    assert Trust("i", "a", claim, granted).scopes(claims) == scopes
