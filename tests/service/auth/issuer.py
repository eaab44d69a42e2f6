"""An OpenID Connect issuer on this machine: it publishes its keys, signs tokens with them, and lets people sign in.

Whoever comes to `/authorize` is `person`, without being asked, and goes back with a code, which `/token` takes once.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, unquote, urlencode, urlsplit

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

AUDIENCE = "consilium"
CLIENT = "consilium-page"


def rsa_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def ec_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


class Issuer:
    """A context while which `url` answers. `keys` may be changed at any time; `down` makes every answer a 500.

    Attributes
    ----------
    person : dict
        Claims of whoever signs in, in both tokens.
    id_claims, answered : dict
        Further claims of the ID token, and fields of the answer of `/token`, which may be wrong ones.
    error : str or None
        What `/authorize` answers in place of a code.
    secret : str or None
        What `/token` asks of its client.
    """

    def __init__(self, **keys: PrivateKeyTypes) -> None:
        self.keys = dict(keys)
        self.down = False
        self.fetched: list[str] = []
        self.person: dict[str, Any] = {"sub": "dr-house", "name": "Gregory House", "scope": "read diagnose"}
        self.id_claims: dict[str, Any] = {}
        self.answered: dict[str, Any] = {}
        self.error: str | None = None
        self.secret: str | None = None
        self.asked: dict[str, str] = {}
        self._codes: dict[str, dict[str, str]] = {}
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Issuer:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answers(self) -> dict[str, Any]:
        return {
            "/.well-known/openid-configuration": {
                "issuer": self.url,
                "jwks_uri": f"{self.url}/keys",
                "authorization_endpoint": f"{self.url}/authorize",
                "token_endpoint": f"{self.url}/token",
            },
            "/keys": {"keys": [public_jwk(name, key) for name, key in self.keys.items()]},
        }

    def token(self, kid: str = "first", key: Any = None, algorithm: str | None = None, **claims: Any) -> str:
        """A token signed with the key `kid`, or with `key` under its name; a claim that is None is left out."""
        now = int(time.time())
        defaults = {"iss": self.url, "aud": AUDIENCE, "sub": "dr-house", "iat": now, "exp": now + 300, "scope": "read"}
        kept = {name: value for name, value in (defaults | claims).items() if value is not None}
        signing = self.keys[kid] if key is None else key
        chosen = algorithm or ("ES256" if isinstance(signing, ec.EllipticCurvePrivateKey) else "RS256")
        return jwt.encode(kept, signing, algorithm=chosen, headers={"kid": kid})

    def authorized(self, asked: dict[str, str]) -> str:
        """Where somebody who came to `/authorize` with what is `asked` goes back to."""
        self.asked = asked
        answer = {"state": asked["state"], "iss": self.url}
        if self.error is not None:
            return f"{asked['redirect_uri']}?{urlencode(answer | {'error': self.error})}"
        code = secrets.token_urlsafe(8)
        self._codes[code] = asked
        return f"{asked['redirect_uri']}?{urlencode(answer | {'code': code})}"

    def exchanged(self, given: dict[str, str], authorization: str | None) -> dict[str, Any] | None:
        """The tokens for a code; None where the code, its verifier or its client is not right."""
        asked = self._codes.pop(given.get("code", ""), None)
        if asked is None or given["grant_type"] != "authorization_code" or not self._is_client(authorization):
            return None
        challenge = base64.urlsafe_b64encode(hashlib.sha256(given["code_verifier"].encode()).digest()).decode()
        if any(given[name] != asked[name] for name in ("client_id", "redirect_uri")) or asked[
            "code_challenge"
        ] != challenge.rstrip("="):
            return None
        access = self.token(**self.person)
        claims = {"aud": CLIENT, "nonce": asked["nonce"], "at_hash": at_hash(access)}
        tokens = {
            "access_token": access,
            "token_type": "Bearer",
            "id_token": self.token(**{**self.person, **claims, **self.id_claims}),
        }
        return {name: value for name, value in (tokens | self.answered).items() if value is not None}

    def _is_client(self, authorization: str | None) -> bool:
        if self.secret is None:
            return authorization is None
        given = base64.b64decode((authorization or "").removeprefix("Basic ")).decode()
        return [unquote(part) for part in given.split(":")] == [CLIENT, self.secret]


def at_hash(access: str) -> str:
    """Of an access token beside an ID token that is signed by RS256 or ES256."""
    return base64.urlsafe_b64encode(hashlib.sha256(access.encode()).digest()[:16]).decode().rstrip("=")


def public_jwk(kid: str, key: PrivateKeyTypes) -> dict[str, Any]:
    if isinstance(key, ec.EllipticCurvePrivateKey):
        jwk = ECAlgorithm.to_jwk(key.public_key(), as_dict=True)
    else:
        assert isinstance(key, rsa.RSAPrivateKey)
        jwk = RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
    return jwk | {"kid": kid, "use": "sig"}


def _handler(issuer: Issuer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            issuer.fetched.append(self.path)
            place = urlsplit(self.path)
            if place.path == "/authorize":
                self.send_response(302)
                self.send_header("Location", issuer.authorized(_single(place.query)))
                self.end_headers()
                return
            answer = None if issuer.down else issuer.answers().get(self.path)
            self.send_response(500 if answer is None else 200)
            self.end_headers()
            self.wfile.write(json.dumps(answer).encode())

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            answer = None if issuer.down else issuer.exchanged(_single(body), self.headers["Authorization"])
            self.send_response(400 if answer is None else 200)
            self.end_headers()
            self.wfile.write(json.dumps({"error": "invalid_grant"} if answer is None else answer).encode())

        def log_message(self, *_: Any) -> None:
            pass

    return Handler


def _single(query: str) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(query).items()}
