"""A real Orthanc (Debian packages orthanc and orthanc-dicomweb) with a database and ports of its own."""

from __future__ import annotations

import json
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests.patience import PATIENCE_S

PROGRAM = shutil.which("Orthanc")
DICOMWEB = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
MISSING = "the Debian packages orthanc and orthanc-dicomweb are not installed"
INSTALLED = PROGRAM is not None and DICOMWEB.is_file()


_PORTS = range(12_000, 32_000)
"""Below those that the system gives to connections, one of which could take a port before its server does."""


def free_ports(count: int) -> list[int]:
    """Ports of the loopback interface that nothing listens at, all different."""
    found: list[int] = []
    while len(found) < count:
        port = secrets.choice(_PORTS)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            found = list(dict.fromkeys([*found, port]))
    return found


@dataclass(frozen=True, slots=True)
class Orthanc:
    """A running Orthanc.

    Attributes
    ----------
    url : str
        Of its REST interface; DICOMweb is below ``dicom-web``.
    dicom_port : int
        Of its AE `aet` on 127.0.0.1.
    http : httpx.Client
        For whatever the methods here do not offer.
    """

    url: str
    dicom_port: int
    http: httpx.Client = field(repr=False)
    log: Path
    aet: str = "ORTHANC"

    @property
    def dicomweb(self) -> str:
        """The root of QIDO-RS, WADO-RS and STOW-RS."""
        return f"{self.url}/dicom-web"

    def register(self, name: str, aet: str, port: int, host: str = "127.0.0.1") -> None:
        """Make a DICOM peer known as `name`: a target of `push` and a destination of C-MOVE."""
        self._call("PUT", f"/modalities/{name}", json={"AET": aet, "Host": host, "Port": port})

    def register_dicomweb(self, name: str, url: str, **options: Any) -> None:
        """Make a DICOMweb server known as `name`: a target of `push_dicomweb`. `options`: see ``DicomWeb.Servers``."""
        self._call("PUT", f"/dicom-web/servers/{name}", json={"Url": url, **options})

    def upload(self, data: bytes) -> str:
        """Put one DICOM file in.

        Returns
        -------
        str
            The identifier that Orthanc gave the instance.
        """
        return str(self._call("POST", "/instances", content=data).json()["ID"])

    def push(self, study: str, to: str) -> None:
        """Send a study (its Study Instance UID) to a registered peer by C-STORE; wait for the end of it.

        Raises
        ------
        httpx.HTTPStatusError
            Where the peer refused any instance.
        """
        body = {"Resources": [self._one("Study", study)], "Synchronous": True}
        self._call("POST", f"/modalities/{to}/store", json=body)

    def push_dicomweb(self, study: str, to: str) -> None:
        """`push` to a registered DICOMweb server, by STOW-RS."""
        body = {"Resources": [self._one("Study", study)], "Synchronous": True}
        self._call("POST", f"/dicom-web/servers/{to}/stow", json=body)

    def instances(self, study: str) -> dict[str, str]:
        """SOP Instance UID of every instance of a study → its SOP Class UID; empty where there is no such study."""
        found = self._find("Instance", StudyInstanceUID=study)
        return {self._tag(one, "SOPInstanceUID"): self._tag(one, "SOPClassUID") for one in found}

    def download(self, sop_instance: str) -> bytes:
        """The DICOM file of one instance."""
        return self._call("GET", f"/instances/{self._one('Instance', sop_instance)}/file").content

    def clear(self) -> None:
        """Delete every patient."""
        for patient in self._call("GET", "/patients").json():
            self._call("DELETE", f"/patients/{patient}")

    def _one(self, level: str, uid: str) -> str:
        key = {"Study": "StudyInstanceUID", "Instance": "SOPInstanceUID"}[level]
        (found,) = self._find(level, **{key: uid})
        return found

    def _find(self, level: str, **query: str) -> list[str]:
        found: list[str] = self._call("POST", "/tools/find", json={"Level": level, "Query": query}).json()
        return found

    def _tag(self, instance: str, keyword: str) -> str:
        return self._call("GET", f"/instances/{instance}/content/{keyword}").text.strip(" \0")

    def _call(self, method: str, path: str, **content: Any) -> httpx.Response:
        answer = self.http.request(method, path, **content)
        answer.raise_for_status()
        return answer


@contextmanager
def running_orthanc(folder: Path, **settings: Any) -> Iterator[Orthanc]:
    """Start one with its files in `folder`; `settings` go before those of `configuration`. It ends with the block."""
    assert PROGRAM is not None, MISSING
    folder.mkdir(parents=True, exist_ok=True)
    http_port, dicom_port = free_ports(2)
    file, log = folder / "orthanc.json", folder / "orthanc.log"
    file.write_text(json.dumps(configuration(folder, http_port, dicom_port) | settings))
    with log.open("wb") as output:
        process = subprocess.Popen([PROGRAM, str(file)], stdout=output, stderr=subprocess.STDOUT)
    url = f"http://127.0.0.1:{http_port}"
    try:
        # The proxy of an environment has no part in what happens on this machine.
        with httpx.Client(base_url=url, timeout=PATIENCE_S, trust_env=False) as http:
            _wait_until_ready(http, process, log)
            yield Orthanc(url, dicom_port, http, log)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def configuration(folder: Path, http_port: int, dicom_port: int) -> dict[str, Any]:
    """Everybody may store and query, studies move to registered peers alone, known instances change nothing."""
    return {
        "Name": "Consilium tests",
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "storage"),
        "Plugins": [str(DICOMWEB)],
        "HttpPort": http_port,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "SslEnabled": False,
        "DicomAet": "ORTHANC",
        "DicomPort": dicom_port,
        "DicomCheckCalledAet": False,
        "DicomAlwaysAllowEcho": True,
        "DicomAlwaysAllowStore": True,
        "DicomAlwaysAllowFind": True,
        "DicomAlwaysAllowMove": True,
        "DicomScuTimeout": 20,
        "ConcurrentJobs": 2,
        "JobsHistorySize": 100,
        "OverwriteInstances": False,
        "StableAge": 1,
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/", "EnableWado": False, "Ssl": False},
    }


def _wait_until_ready(http: httpx.Client, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        try:
            if http.get("/system").is_success:
                return
        except httpx.TransportError:
            time.sleep(0.1)
    raise AssertionError(f"Orthanc did not start:\n{log.read_text(errors='replace')[-2000:]}")
