"""A record system of the tests' own that launches SMART apps: strict about PKCE, codes, clients and redirects."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlsplit

import httpx

ISS = "https://ehr.example/fhir"
LOGIN = "https://login.ehr.example"
CLIENT, SECRET = "consilium", "its secret"
PATIENT = {
    "resourceType": "Patient",
    "id": "p1",
    "identifier": [{"system": "urn:oid:1.9", "value": "MRN-1"}, {"system": "urn:oid:1.9", "value": "M0", "use": "old"}],
    "name": [{"family": "Sample<b>", "given": ["Anna", "Maria"]}],
    "birthDate": "1960-02-03",
}
Json = dict[str, Any]


@dataclass
class SmartServer:
    """Users of it have the chart of `PATIENT` open.

    Attributes
    ----------
    context : dict
        What the token's answer says beside the token.
    resources : dict
        By their references.
    configuration : dict
        Its .well-known/smart-configuration.
    """

    context: Json = field(default_factory=lambda: {"patient": "p1", "encounter": "e1", "need_patient_banner": True})
    resources: dict[str, Json] = field(default_factory=lambda: {"Patient/p1": PATIENT})
    configuration: Json = field(
        default_factory=lambda: {
            "authorization_endpoint": f"{LOGIN}/authorize",
            "token_endpoint": f"{LOGIN}/token",
            "code_challenge_methods_supported": ["S256"],
        }
    )
    codes: dict[str, Json] = field(default_factory=dict)
    requests: list[httpx.Request] = field(default_factory=list)
    secret: str | None = SECRET

    @property
    def http(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(transport=httpx.MockTransport(self.answer))

    def authorize(self, url: str) -> str:
        """What a browser is sent to by the address that the app made; the user agrees."""
        asked = dict(parse_qsl(urlsplit(url).query))
        assert url.startswith(f"{LOGIN}/authorize?")
        assert (asked["response_type"], asked["code_challenge_method"]) == ("code", "S256")
        assert (asked["client_id"], asked["aud"], asked["launch"]) == (CLIENT, ISS, "L1")
        assert "launch" in asked["scope"].split()
        code = f"code-{len(self.codes)}"
        self.codes[code] = asked
        return f"{asked['redirect_uri']}?code={code}&state={asked['state']}"

    def answer(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        url = str(request.url)
        if url == f"{ISS}/.well-known/smart-configuration":
            return httpx.Response(200, json=self.configuration)
        if url == f"{LOGIN}/token":
            return self._token(request)
        if request.headers.get("authorization") != "Bearer the-token":
            return httpx.Response(401)
        found = self.resources.get(url.removeprefix(f"{ISS}/"))
        return httpx.Response(404) if found is None else httpx.Response(200, json=found)

    def _token(self, request: httpx.Request) -> httpx.Response:
        form = {name: values[0] for name, values in parse_qs(request.content.decode()).items()}
        asked = self.codes.pop(form["code"], None)
        if asked is None or not self._is_client(request, form):
            return httpx.Response(400, json={"error": "invalid_grant"})
        digest = hashlib.sha256(form["code_verifier"].encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        same = challenge == asked["code_challenge"] and form["redirect_uri"] == asked["redirect_uri"]
        if not same or form["grant_type"] != "authorization_code":
            return httpx.Response(400, json={"error": "invalid_grant"})
        return httpx.Response(200, json={"access_token": "the-token", "token_type": "Bearer", **self.context})

    def _is_client(self, request: httpx.Request, form: dict[str, str]) -> bool:
        if self.secret is None:
            return form.get("client_id") == CLIENT and "authorization" not in request.headers
        login = base64.b64encode(f"{CLIENT}:{self.secret}".encode()).decode()
        return request.headers.get("authorization") == f"Basic {login}"
