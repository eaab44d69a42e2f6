"""The FHIR server of this folder: installed where Node is, started for a test, and asked as a record system is."""

from __future__ import annotations

import fcntl
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

FOLDER = Path(__file__).resolve().parent
_LEAST_NODE = 20
_LOCK = FOLDER / "package-lock.json"
_INSTALLED = FOLDER / "node_modules" / ".package-lock.json"

Resource = dict[str, Any]


@dataclass(frozen=True, slots=True)
class FhirServer:
    """A running server, empty at first.

    Attributes
    ----------
    url : str
        Its base.
    http : httpx.Client
        For whatever the methods here do not offer; its base URL is `url`.
    """

    url: str
    http: httpx.Client = field(repr=False)

    def create(self, resource: Resource) -> Resource:
        """Store one resource; as the server has it."""
        answer = self.http.post(f"/{resource['resourceType']}", json=resource)
        assert answer.status_code == httpx.codes.CREATED, answer.text
        found: Resource = answer.json()
        return found

    def update(self, resource: Resource) -> None:
        """Store a new version of a resource that has an id."""
        answer = self.http.put(f"/{resource['resourceType']}/{resource['id']}", json=resource)
        assert answer.is_success, answer.text

    def read(self, reference: str) -> Resource:
        """The resource that ``Observation/1`` or the like names."""
        answer = self.http.get(f"/{reference}")
        assert answer.is_success, answer.text
        found: Resource = answer.json()
        return found

    def search(self, kind: str, **parameters: str) -> list[Resource]:
        """Every resource of a type that has what `parameters` ask for."""
        answer = self.http.get(f"/{kind}", params=parameters | {"_count": "1000"})
        assert answer.is_success, answer.text
        return [entry["resource"] for entry in answer.json().get("entry", [])]

    def versions(self, resource: Resource) -> int:
        """How many versions of it there are."""
        answer = self.http.get(f"/{resource['resourceType']}/{resource['id']}/_history")
        assert answer.is_success, answer.text
        return len(answer.json()["entry"])


def missing() -> str | None:
    """Why there can be no server here, None where there can; what its lock file names is installed first."""
    node = shutil.which("node")
    if node is None or shutil.which("npm") is None:
        return "Node is not installed"
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout
    if int(version.lstrip("v").partition(".")[0]) < _LEAST_NODE:
        return f"Node {_LEAST_NODE} is not installed"
    with (FOLDER / ".gitignore").open("rb") as file:
        # Test workers are processes, and one of them installs.
        fcntl.flock(file, fcntl.LOCK_EX)
        if _INSTALLED.exists() and _INSTALLED.stat().st_mtime >= _LOCK.stat().st_mtime:
            return None
        done = subprocess.run(["npm", "ci", "--prefer-offline"], cwd=FOLDER, capture_output=True, check=False)
    return "the packages of tests/fhir_server/package-lock.json cannot be installed" if done.returncode else None


@contextmanager
def running_fhir_server() -> Iterator[FhirServer]:
    """Start one; it ends with the block. `missing` must have said None."""
    # Node 20 has a WebSocket, which the library wants at its import, only where it is asked for.
    command = ["node", "--experimental-websocket", "server.mjs"]
    with subprocess.Popen(command, cwd=FOLDER, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            url = process.stdout.readline().strip()
            assert url, "the FHIR server did not start"
            # The proxy of an environment has no part in what happens on this machine.
            with httpx.Client(base_url=url, timeout=60, trust_env=False) as http:
                yield FhirServer(url, http)
        finally:
            process.kill()
