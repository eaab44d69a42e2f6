"""Everything that gateway.yaml describes becomes a part of the gateway, and what it does not describe is not there."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import httpx
import pytest

from hospital.configuration.settings_file import SettingsProblems
from hospital.running.commands.assembled_gateway import assembled_gateway
from tests.hospital.running.settings_sample import settings
from tests.patience import PATIENCE_S

EVERYTHING = """
dicom: {ae_title: GATEWAY, listen: "127.0.0.1:0"}
peers: {pacs: {ae_title: PACS, address: "127.0.0.1:9", may: [send, be asked, receive]}}
hl7: {lab: {listen: "127.0.0.1:0", senders: {lis: {networks: [127.0.0.1]}}}}
identifiers: {hospital: {known_as: [HOSP]}}
fhir: {record: {url: "http://127.0.0.1:9", patient_system: "urn:oid:1.2", patient_issuer: hospital}}
dicomweb: {archive: {url: "http://127.0.0.1:9"}}
destinations:
  by-dicom: {kind: dicom, peer: pacs}
  by-stow: {kind: stow, server: archive}
  by-hl7: {kind: hl7, address: "127.0.0.1:9"}
  by-fhir: {kind: fhir, server: record}
"""
OF_PARTS = ("dicom_objects", "dicom_refusals", "hl7_messages", "hl7_refusals", "fhir_readings")


async def metrics_of(folder: Path, more: str) -> str:
    """What a gateway shows that was started, and ended then."""
    gateway = assembled_gateway(settings(folder, more))
    stop, started = asyncio.Event(), asyncio.Event()
    running = asyncio.create_task(gateway.run(stop, started.set))
    await asyncio.wait_for(started.wait(), PATIENCE_S)
    async with httpx.AsyncClient(trust_env=False) as client:
        text = (await client.get(f"http://127.0.0.1:{gateway.http.port}/metrics", timeout=PATIENCE_S)).text
    stop.set()
    await asyncio.wait_for(running, PATIENCE_S)
    return text


def test_each_system_that_is_described_is_a_part(tmp_path: Path) -> None:
    text = asyncio.run(metrics_of(tmp_path, EVERYTHING))

    for part in OF_PARTS:
        assert f"# TYPE consilium_gateway_{part}_total counter" in text
    for destination in ("by-dicom", "by-stow", "by-hl7", "by-fhir"):
        assert f'consilium_gateway_destination_reachable{{destination="{destination}"}} 1.0' in text


def test_what_is_not_described_is_not_there(tmp_path: Path) -> None:
    text = asyncio.run(metrics_of(tmp_path, ""))

    assert not any(part in text for part in OF_PARTS)
    assert "destination=" not in text


def received(repository: socket.socket, wanted: str) -> bytes:
    """The first message that holds `wanted`."""
    while True:
        message = repository.recv(65536)
        if wanted.encode() in message:
            return message


def test_start_stop_and_a_refused_sender_reach_the_audit_repository(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as repository:
        repository.bind(("127.0.0.1", 0))
        repository.settimeout(60)
        port = repository.getsockname()[1]
        more = f"""
hl7: {{lab: {{listen: "127.0.0.1:0", senders: {{lis: {{networks: [10.0.0.1]}}}}}}}}
audit: {{repositories: {{atna: {{kind: syslog, address: "127.0.0.1:{port}", transport: udp}}}}}}
"""

        async def run() -> str:
            gateway = assembled_gateway(settings(tmp_path, more))
            stop, started = asyncio.Event(), asyncio.Event()
            running = asyncio.create_task(gateway.run(stop, started.set))
            await asyncio.wait_for(started.wait(), 60)
            await asyncio.to_thread(received, repository, "Application Start")
            (listener,) = [one.listener for one in gateway._parts if hasattr(one, "listener")]
            reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
            assert await asyncio.wait_for(reader.read(), 60) == b""
            writer.close()
            alert = await asyncio.to_thread(received, repository, "Security Alert")
            assert b"address not allowed" in alert
            async with httpx.AsyncClient(trust_env=False) as client:
                text = (await client.get(f"http://127.0.0.1:{gateway.http.port}/metrics", timeout=60)).text
            stop.set()
            await asyncio.wait_for(running, 60)
            return text

        text = asyncio.run(run())
        assert 'consilium_gateway_audit_messages_total{outcome="spooled",repository="atna"} 2.0' in text
        # The last one waited in the spool for the next start.
        asyncio.run(metrics_of(tmp_path, more))
        received(repository, "Application Stop")


def test_a_repository_has_a_name_of_its_own_and_a_server_that_there_is(tmp_path: Path) -> None:
    atna = 'audit: {repositories: {atna: {kind: syslog, address: "127.0.0.1:9", transport: udp}}}'
    with pytest.raises(SettingsProblems, match=r"audit\.repositories\.atna: got 'atna', must be no name of a dest"):
        settings(tmp_path, f'{atna}\ndestinations: {{atna: {{kind: hl7, address: "127.0.0.1:9"}}}}')
    with pytest.raises(SettingsProblems, match=r"audit\.repositories\.a\.server: got 'b', must be a name of `fhir`"):
        settings(tmp_path, "audit: {repositories: {a: {kind: fhir, server: b}}}")
    with pytest.raises(SettingsProblems, match=r"tls must not be given for transport tcp or udp"):
        settings(tmp_path, atna.replace("udp", "tcp, tls: {ca: ca.pem}"))
