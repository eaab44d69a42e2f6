"""Everything that gateway.yaml describes becomes a part of the gateway, and what it does not describe is not there."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx

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
