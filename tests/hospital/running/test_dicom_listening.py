"""The listener and STOW-RS within a running gateway, as gateway.yaml describes them."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import pytest
from pynetdicom import AE

from consilium.domain.errors import InputError
from hospital.configuration.gateway_settings import GatewaySettings
from hospital.configuration.settings_file import SettingsProblems, read_settings
from hospital.delivery.lanes import Lanes
from hospital.running.dicom_listening import DicomPart
from hospital.running.dicom_parts import DicomParts
from hospital.running.gateway import Gateway, store_location
from hospital.running.routes.stow_routes import stow_routes
from hospital.store.gateway_store import Store
from hospital.store.received import PatientId
from tests.hospital.dicom.samples import part10, radiograph, uid
from tests.hospital.running.settings_sample import settings, written
from tests.patience import PATIENCE_S

LISTEN = 'http: {listen: "127.0.0.1:0"}'
SENDERS = LISTEN[:-1] + ", senders: {vna: {token: {env: STOW_TOKEN}, patient_issuer: house}}}"
MORE = """
identifiers: {house: {known_as: [HOUSE]}}
dicom: {listen: "127.0.0.1:0"}
peers: {pacs: {ae_title: PACS, networks: [127.0.0.1]}}
"""
BODY = b"--b\r\nContent-Type: application/dicom\r\n\r\n%b\r\n--b--\r\n"


def _with_senders(folder: Path, more: str = "") -> GatewaySettings:
    path = written(folder, MORE + more)
    path.write_text(path.read_text(encoding="utf-8").replace(LISTEN, SENDERS), encoding="utf-8")
    return read_settings(path)


class Idle:
    """A study worker that has nothing to do."""

    async def run(self) -> None:
        await asyncio.Event().wait()


def _send(port: int) -> int:
    ae = AE("PACS")
    ae.add_requested_context(radiograph(1).SOPClassUID)
    association = ae.associate("127.0.0.1", port, ae_title="CONSILIUM")
    status = association.send_c_store(radiograph(1)).Status
    association.release()
    return int(status)


async def _stow(http: httpx.AsyncClient, token: str) -> int:
    headers = {
        "Content-Type": 'multipart/related; type="application/dicom"; boundary=b',
        "Authorization": f"Bearer {token}",
    }
    content = BODY % part10(radiograph(2, IssuerOfPatientID=None))
    return (await http.post("/dicom-web/studies", content=content, headers=headers)).status_code


def test_a_gateway_receives_by_c_store_and_by_stow_and_shows_how_much(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STOW_TOKEN", "the token")
    given = _with_senders(tmp_path)
    store = Store(store_location(given))
    parts = DicomParts.of(given, store)
    scp = parts.listener()
    assert scp is not None
    part = DicomPart(scp, parts.receiver, "CONSILIUM")
    routes = stow_routes(given, store, parts.receiver)
    gateway = Gateway(given, store, [part], Idle(), Lanes({}, store.outbox, store.clock), routes)

    async def used() -> str:
        stop, started = asyncio.Event(), asyncio.Event()
        running = asyncio.create_task(gateway.run(stop, started.set))
        await asyncio.wait_for(started.wait(), PATIENCE_S)
        try:
            assert part.listening == f"dicom CONSILIUM port {scp.port}"
            assert await asyncio.to_thread(_send, scp.port) == 0
            async with httpx.AsyncClient(
                base_url=f"http://127.0.0.1:{gateway.http.port}", trust_env=False, timeout=PATIENCE_S
            ) as http:
                assert await _stow(http, "another token") == 401
                assert await _stow(http, "the token") == 200
                rows = await asyncio.to_thread(store.records.instances, uid("study", "A"))
                assert {(one.source, one.patient) for one in rows} == {
                    ("pacs", PatientId("P-A", "NORTH")),
                    ("vna", PatientId("P-A", "house")),
                }
                return (await http.get("/metrics")).text
        finally:
            stop.set()
            await running

    assert 'consilium_gateway_dicom_objects_total{fate="stored"} 2.0' in asyncio.run(used())


def test_without_senders_there_is_no_route(tmp_path: Path) -> None:
    given = settings(tmp_path)
    store = Store(store_location(given))
    assert stow_routes(given, store, DicomParts.of(given, store).receiver) == []


def test_a_sender_whose_token_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STOW_TOKEN", raising=False)
    given = _with_senders(tmp_path)
    store = Store(store_location(given))
    with pytest.raises(InputError, match=r"http\.senders\.vna\.token"):
        stow_routes(given, store, DicomParts.of(given, store).receiver)


def test_a_name_stands_for_one_sender(tmp_path: Path) -> None:
    with pytest.raises(SettingsProblems, match="vna"):
        _with_senders(tmp_path, 'dicomweb: {vna: {url: "https://vna.example/dicom-web"}}\n')
