"""`consilium gateway run` and `check` as a person runs them: ended by signals, killed, restarted."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from consilium.cli import main
from hospital.configuration.settings_file import read_settings
from hospital.running.gateway import store_location
from hospital.store.gateway_store import Store
from hospital.store.received import PatientId
from tests.hospital.running.settings_sample import dicom_file, written
from tests.patience import PATIENCE_S

PORTS = 3
MORE = """
dicom: {{listen: "127.0.0.1:{1}"}}
peers: {{pacs: {{ae_title: PACS, address: "127.0.0.1:9", networks: [127.0.0.1], may: [send, be asked, receive]}}}}
hl7: {{port: {{listen: "127.0.0.1:{2}", senders: {{lis: {{networks: [127.0.0.1]}}}}}}}}
identifiers: {{hospital: {{known_as: [HOSP]}}}}
local_codes: [{{code: CRP, means: 1988-5}}]
"""
PATIENT = PatientId("MRN-4711", "hospital")


def message(number: int) -> bytes:
    lines = [
        f"MSH|^~\\&|LAB|HOSP|GW|X|20260302080000||ORU^R01|{number}|P|2.5",
        "PID|1||MRN-4711^^^HOSP^MR||Kaltmüller^Anna",
        f"OBR|1|P{number}|F{number}|CRP|||20260302080000",
        f"OBX|1|NM|CRP^CRP^LAB||{number}|mg/L|||||F|||20260302080000",
    ]
    return b"\x0b" + "\r".join(lines).encode() + b"\r\x1c\r"


def free_ports() -> list[int]:
    with_ports = [socket.create_server(("127.0.0.1", 0)) for _ in range(PORTS)]
    found = [one.getsockname()[1] for one in with_ports]
    for one in with_ports:
        one.close()
    return found


class Running:
    """A gateway's process."""

    def __init__(self, file: Path, ports: list[int]) -> None:
        self.file, self.ports = file, ports
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "consilium.cli", "gateway", "run", str(self.file)]
        with (self.file.parent / "log").open("a") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, text=True)
        deadline = time.monotonic() + PATIENCE_S
        while self.process.poll() is None and time.monotonic() < deadline:
            try:
                if self.get("/readyz").is_success:
                    return
            except httpx.TransportError:
                time.sleep(0.1)
        raise AssertionError(self.log)

    def get(self, path: str) -> httpx.Response:
        return httpx.get(f"http://127.0.0.1:{self.ports[0]}{path}", trust_env=False, timeout=PATIENCE_S)

    def end(self, how: signal.Signals) -> int:
        assert self.process is not None
        self.process.send_signal(how)
        return self.process.wait(PATIENCE_S)

    @property
    def log(self) -> str:
        return (self.file.parent / "log").read_text()


@contextmanager
def mllp(port: int) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as connection:
        yield connection


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    ports = free_ports()
    file = written(tmp_path, MORE.format(*ports))
    file.write_text(file.read_text().replace('"127.0.0.1:0"', f'"127.0.0.1:{ports[0]}"'))
    made = Running(file, ports)
    made.start()
    yield made
    if made.process is not None and made.process.poll() is None:
        made.process.kill()
        made.process.wait()


def values(file: Path) -> list[float | None]:
    store = Store(store_location(read_settings(file)))
    found = [one.value for one in store.records.observations([PATIENT])]
    store.database.close()
    return found


def test_a_killed_gateway_has_everything_it_acknowledged_and_goes_on_after_a_restart(running: Running) -> None:
    with mllp(running.ports[2]) as lis:
        for number in (1, 2, 3):
            lis.sendall(message(number))
            assert b"MSA|AA|" in lis.recv(4096)
    assert running.end(signal.SIGKILL) == -signal.SIGKILL
    assert values(running.file) == [1.0, 2.0, 3.0]

    running.start()
    with mllp(running.ports[2]) as lis:
        lis.sendall(message(3))  # whose acknowledgement its sender may not have seen
        assert b"MSA|AA|3" in lis.recv(4096)
        lis.sendall(message(4))
        assert b"MSA|AA|4" in lis.recv(4096)
    counted = 'consilium_gateway_hl7_messages_total{answer="accept",kind="ORU",sender="lis"} 2.0'
    assert counted in running.get("/metrics").text.splitlines()

    assert running.end(signal.SIGTERM) == 0
    assert values(running.file) == [1.0, 2.0, 3.0, 4.0]
    lines = [json.loads(line) for line in running.log.splitlines()]
    assert lines[-1]["event"] == "the gateway ends"
    for secret in ("MRN-4711", "Kaltm", "Anna"):
        assert secret not in running.log


def test_a_second_gateway_on_the_same_store_says_so_and_leaves_the_first_alone(running: Running) -> None:
    command = [sys.executable, "-m", "consilium.cli", "gateway", "run", str(running.file)]

    second = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)

    assert second.returncode == 1
    assert second.stderr.endswith("another gateway runs on this store\n")
    assert running.get("/readyz").is_success


def asked(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, Any]:
    code = main(["gateway", "check", *arguments, "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_check_names_every_system_and_what_it_answered(running: Running, capsys: pytest.CaptureFixture[str]) -> None:
    code, document = asked(capsys, str(running.file))

    assert code == 1
    assert document["systems"] == [
        {
            "system": "services.default",
            "asked": "GET /readyz",
            "problem": "no answer from http://127.0.0.1:9/readyz (ConnectError)",
        },
        {
            "system": "peers.pacs",
            "asked": "C-ECHO",
            "problem": "there was no association with 127.0.0.1:9 (PACS): connection refused",
        },
    ]
    assert main(["gateway", "check", str(running.file)]) == 1
    first, *_, last = capsys.readouterr().out.splitlines()
    assert first == f"{running.file}: the settings can be read"
    assert last == f"{running.file}: 2 of 2 systems did not answer as they should: services.default, peers.pacs"
    answering = running.file.read_text().replace("127.0.0.1:9", f"127.0.0.1:{running.ports[0]}", 1)
    running.file.write_text(answering)
    assert asked(capsys, str(running.file))[1]["systems"][0]["problem"] is None


def test_check_refuses_a_file_with_a_wrong_key(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = written(tmp_path, "hl8: {}\n")

    assert main(["gateway", "check", str(file), "--no-peers"]) == 2
    assert capsys.readouterr().err == f"error: {file}: hl8: got 'hl8', is no known key; the nearest is 'hl7'\n"


TLS = "tls: {certificate: no.pem, key: no.key}"


@pytest.mark.parametrize(
    ("listener", "field"),
    [
        (f'dicom: {{listen: "127.0.0.1:0", {TLS}}}', "dicom.tls"),
        (f'hl7: {{lab: {{listen: "127.0.0.1:0", senders: {{lis: {{networks: [127.0.0.1]}}}}, {TLS}}}}}', "hl7.lab.tls"),
        ('dicomweb: {archive: {url: "http://127.0.0.1:9", token: {env: NO_SUCH_TOKEN}}}', "dicomweb.archive.token"),
    ],
)
def test_check_reads_what_run_reads_and_leaves_no_store(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], listener: str, field: str
) -> None:
    file = written(tmp_path, listener + "\n")

    assert main(["gateway", "check", str(file), "--no-peers"]) == 2
    assert capsys.readouterr().err.startswith(f"error: {field}: got ")
    assert {one.name for one in tmp_path.iterdir()} == {"gateway.yaml"}


@pytest.mark.parametrize(
    ("modality", "route"),
    [
        ("DX", "takes the route chest: the service default is asked, results go to nobody"),
        ("MG", "takes no route: it is ignored"),
    ],
)
def test_check_shows_which_route_an_image_takes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], modality: str, route: str
) -> None:
    file = written(tmp_path, "peers: {pacs: {ae_title: PACS, networks: [127.0.0.1]}}\n")
    file.write_text(file.read_text().replace("everything: {", "chest: {when: {modalities: [CR, DX]}, "))
    image = dicom_file(tmp_path / "image.dcm", modality)

    code, document = asked(capsys, str(file), "--no-peers", "--image", str(image))

    assert (code, document["route"]) == (0, f"a study of this image from pacs {route}")
    (tmp_path / "no.dcm").write_bytes(b"text")
    assert main(["gateway", "check", str(file), "--no-peers", "--image", str(tmp_path / "no.dcm")]) == 2
    assert "must be a DICOM file" in capsys.readouterr().err
    assert main(["gateway", "check", str(file), "--no-peers", "--image", str(image), "--from", "ris"]) == 2
    assert "--from: got 'ris', must be a peer that may send: pacs" in capsys.readouterr().err
