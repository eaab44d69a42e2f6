"""An OpenID Connect issuer on this machine: it publishes its keys and signs tokens with them."""

from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

AUDIENCE = "consilium"


def rsa_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def ec_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


class Issuer:
    """A context while which `url` answers. `keys` may be changed at any time; `down` makes every answer a 500."""

    def __init__(self, **keys: PrivateKeyTypes) -> None:
        self.keys = dict(keys)
        self.down = False
        self.fetched: list[str] = []
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
            "/.well-known/openid-configuration": {"issuer": self.url, "jwks_uri": f"{self.url}/keys"},
            "/keys": {"keys": [public_jwk(name, key) for name, key in self.keys.items()]},
        }

    def token(self, kid: str = "first", key: Any = None, algorithm: str | None = None, **claims: Any) -> str:
        """A token signed with the key `kid`, or with `key` under its name; a claim that is None is left out."""
        now = int(time.time())
        said = {"iss": self.url, "aud": AUDIENCE, "sub": "dr-house", "iat": now, "exp": now + 300, "scope": "read"}
        kept = {name: value for name, value in (said | claims).items() if value is not None}
        signing = self.keys[kid] if key is None else key
        chosen = algorithm or ("ES256" if isinstance(signing, ec.EllipticCurvePrivateKey) else "RS256")
        return jwt.encode(kept, signing, algorithm=chosen, headers={"kid": kid})


def public_jwk(kid: str, key: PrivateKeyTypes) -> dict[str, Any]:
    if isinstance(key, ec.EllipticCurvePrivateKey):
        said = ECAlgorithm.to_jwk(key.public_key(), as_dict=True)
    else:
        assert isinstance(key, rsa.RSAPrivateKey)
        said = RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
    return said | {"kid": kid, "use": "sig"}


def _handler(issuer: Issuer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            issuer.fetched.append(self.path)
            answer = None if issuer.down else issuer.answers().get(self.path)
            self.send_response(500 if answer is None else 200)
            self.end_headers()
            self.wfile.write(json.dumps(answer).encode())

        def log_message(self, *_: Any) -> None:
            pass

    return Handler
