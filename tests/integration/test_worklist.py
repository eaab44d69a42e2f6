"""A gateway at a strict UPS-RS worklist and a real Orthanc: killed amid its work items, it completes each one once."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from pydicom.uid import Comprehensive3DSRStorage, SecondaryCaptureImageStorage
from typer.testing import CliRunner

from consilium.cli import app
from tests import orthanc as real
from tests.hospital.dicom.samples import part10, radiograph
from tests.hospital.gateway_process import GatewayProcess, running_gateway
from tests.hospital.studies.served_service import ServedService, served
from tests.hospital.worklist.ups_server import UpsServer, serving, value, work_item
from tests.patience import until

pytestmark = pytest.mark.skipif(not real.INSTALLED, reason=real.MISSING)

RESULTS = {Comprehensive3DSRStorage, SecondaryCaptureImageStorage}


def listed(gateway: GatewayProcess) -> dict[str, str]:
    """Work items and their stages, as the command shows them."""
    done = CliRunner().invoke(app, ["gateway", "work-items", "--all", "--settings", str(gateway.file), "--json"])
    assert done.exit_code == 0, done.output
    return {one["item"]: one["stage"] for one in json.loads(done.stdout)}


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[real.Orthanc]:
    with real.running_orthanc(tmp_path_factory.mktemp("orthanc")) as running:
        yield running


def test_a_killed_gateway_completes_every_work_item_that_it_claimed(tmp_path: Path, orthanc: real.Orthanc) -> None:
    (dicom_port,) = real.free_ports(1)
    orthanc.register("gateway", "CONSILIUM", dicom_port)
    images = [radiograph(1, side=96, study=f"U{number}") for number in range(3)]
    for image in images:
        orthanc.upload(part10(image))
    studies = [str(image.StudyInstanceUID) for image in images]
    worklist = UpsServer()
    items = [worklist.add(work_item(f"1.2.7.{n + 1}", study, patient=f"P-U{n}")) for n, study in enumerate(studies)]
    wrong = worklist.add(work_item("1.2.7.9", studies[0], patient="P-SOMEBODY-ELSE"))
    with serving(worklist), served(ServedService()) as service:
        settings = {
            "services": {"default": {"url": service}},
            "dicom": {"ae_title": "CONSILIUM", "listen": f"127.0.0.1:{dicom_port}"},
            "peers": {
                "pacs": {
                    "ae_title": orthanc.aet,
                    "address": f"127.0.0.1:{orthanc.dicom_port}",
                    "may": ["send", "be asked", "receive"],
                }
            },
            "completeness": {"quiet": "1s"},
            "worklists": {
                "orders": {
                    "url": worklist.url,
                    "inputs": "pacs",
                    "codes": [{"value": "CHEST-AI", "scheme": "99SITE", "meaning": "Chest radiograph"}],
                    "every": "1s",
                }
            },
            "routes": {"chest": {"send_to": ["archive"]}},
            "destinations": {"archive": {"kind": "dicom", "peer": "pacs"}},
        }
        with running_gateway(tmp_path / "gateway", settings) as gateway:
            for claims in (1, len(items)):
                until(partial(worklist.has_claims, claims), "the claim")
                gateway.kill()
                gateway.start()
            ended = ("COMPLETED", "CANCELED")
            until(lambda: all(worklist.state(one) in ended for one in worklist.items), "the end")
            until(lambda: set(listed(gateway).values()) <= {"completed", "canceled"}, "the end as the gateway knows it")

            assert listed(gateway) == dict.fromkeys(items, "completed") | {wrong: "canceled"}
            log = gateway.log
    assert [worklist.state(one) for one in (*items, wrong)] == ["COMPLETED"] * 3 + ["CANCELED"]
    assert sorted(worklist.claims) == sorted([*items, wrong])
    for item, study in zip(items, studies, strict=True):
        found = {uid: kind for uid, kind in orthanc.instances(study).items() if kind in RESULTS}
        assert len(found) == 2
        assert {uid: kind for kind, uid in worklist.outputs(item)} == found
        output = value(worklist.performed(item), "00404033")
        assert value(value(output, "0040E021"), "00080054") == orthanc.aet
    for word in ("Sample", "Anna", "P-U0", "SOMEBODY"):
        assert word not in log
