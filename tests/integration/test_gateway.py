"""A gateway between a real Orthanc, a laboratory, an information system and a real service."""

from __future__ import annotations

import json
import time
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import pydicom
import pytest
from lxml import etree
from pydicom.uid import Comprehensive3DSRStorage, SecondaryCaptureImageStorage
from typer.testing import CliRunner

from consilium.api.client import Client, ServiceProblem
from consilium.cli import app
from consilium.formats.dicom.own_objects import is_own_object
from service.auth.api_keys import create_key
from service.scopes import Scope
from tests import orthanc as real
from tests.consilium.output.dicom.results import complaints, contradictions
from tests.fhir_server.running import FhirServer, missing, running_fhir_server
from tests.hospital.audit.test_messages import SCHEMA
from tests.hospital.certificates import Authority
from tests.hospital.dicom.samples import part10, radiograph, rejection_note
from tests.hospital.gateway_process import GatewayProcess, running_gateway
from tests.hospital.peer_doubles import (
    AuditRepository,
    InformationSystem,
    audit_repository,
    information_system,
    send_hl7,
)
from tests.integration.processes import KillableService, killable_service
from tests.patience import until

pytestmark = pytest.mark.skipif(not real.INSTALLED, reason=real.MISSING)

PATIENT_SYSTEM = "urn:oid:1.2.276.0.76.3.1.999"
RESULTS = {Comprehensive3DSRStorage, SecondaryCaptureImageStorage}


GROUPS = {"gateway": ("chest", "bone"), "ann": ("chest",), "bob": ("bone",)}


@dataclass(frozen=True)
class Site:
    """Everything that runs; `tokens` are those of the gateway and of two readers."""

    orthanc: real.Orthanc
    gateway: GatewayProcess
    service: KillableService
    ris: InformationSystem
    record: FhirServer | None
    repository: AuditRepository
    lab_port: int
    model: Path
    tokens: dict[str, str]

    def reader(self, name: str) -> Client:
        return Client(self.service.url, token=self.tokens[name], retries=0)

    def push(self, *images: Any) -> str:
        """Put images into the archive, and let it send their study; its UID."""
        for image in images:
            self.orthanc.upload(part10(image))
        study = str(images[0].StudyInstanceUID)
        self.orthanc.push(study, "gateway")
        return study

    def results(self, study: str) -> dict[str, str]:
        """The gateway's objects in a study of the archive, by UID."""
        return {uid: kind for uid, kind in self.orthanc.instances(study).items() if kind in RESULTS}

    def report(self, study: str) -> pydicom.Dataset:
        """The latest structured report of a study in the archive."""
        uids = [uid for uid, kind in self.results(study).items() if kind == Comprehensive3DSRStorage]
        reports = [pydicom.dcmread(BytesIO(self.orthanc.download(uid))) for uid in uids]
        return max(reports, key=lambda one: int(one.InstanceNumber))

    def studies(self) -> list[dict[str, Any]]:
        return command(self.gateway, "studies", "list")


def command(gateway: GatewayProcess, *words: str) -> Any:
    """What `consilium gateway ... --json` says."""
    done = CliRunner().invoke(app, ["gateway", *words, "--settings", str(gateway.file), "--json"])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


@contextmanager
def record_system() -> Iterator[FhirServer | None]:
    """A FHIR server that knows one patient of the tests; None where there can be none."""
    if missing():
        yield None
        return
    with running_fhir_server() as server:
        server.create({"resourceType": "Patient", "identifier": [{"system": PATIENT_SYSTEM, "value": "P-W"}]})
        yield server


@contextmanager
def site(folder: Path, model: Path) -> Iterator[Site]:
    dicom_port, lab_port, service_port = real.free_ports(3)
    keys, scopes = folder / "keys.json", [Scope.DIAGNOSE, Scope.READ]
    tokens = {name: create_key(keys, name, scopes, groups)[1] for name, groups in GROUPS.items()}
    (folder / "token").write_text(tokens["gateway"])
    authority = Authority(folder / "authority")
    identity = authority.identity("gateway")
    settings_of_service = {"model_threads": 1, "device": "cpu", "keys": keys, "studies": True}
    with (
        information_system() as ris,
        record_system() as record,
        audit_repository(authority.identity("repository").server()) as repository,
        real.running_orthanc(folder / "orthanc") as orthanc,
        killable_service(model, settings_of_service, service_port) as service,
    ):
        settings: dict[str, Any] = {
            "services": {"default": {"url": service.url, "token": {"file": str(folder / "token")}}},
            "dicom": {"ae_title": "CONSILIUM", "listen": f"127.0.0.1:{dicom_port}"},
            "peers": {
                "pacs": {
                    "ae_title": orthanc.aet,
                    "address": f"127.0.0.1:{orthanc.dicom_port}",
                    "may": ["send", "be asked", "receive"],
                }
            },
            "hl7": {
                "clinic": {"listen": f"127.0.0.1:{lab_port}", "senders": {"laboratory": {"networks": ["127.0.0.1"]}}}
            },
            "identifiers": {"north": {"known_as": ["NORTH"]}, "south": {"known_as": ["SOUTH"]}},
            "completeness": {"quiet": "2s"},
            "routes": {
                "chest": {
                    "when": {"modalities": ["DX"], "body_parts": ["CHEST"]},
                    "send_to": ["archive", "ris"],
                    "reading_group": "chest",
                    "priors": {"sources": ["pacs"], "modalities": ["DX"], "body_parts": ["CHEST"], "give_up": "5m"},
                }
            },
            "destinations": {
                "archive": {"kind": "dicom", "peer": "pacs"},
                "ris": {"kind": "hl7", "address": f"127.0.0.1:{ris.port}"},
            },
            "audit": {
                "repositories": {
                    "atna": {
                        "kind": "syslog",
                        "address": f"127.0.0.1:{repository.port}",
                        "tls": {
                            "ca": str(identity.authority),
                            "certificate": str(identity.certificate),
                            "key": str(identity.key),
                        },
                    }
                },
            },
        }
        if record is not None:
            reached = {"url": record.url, "patient_system": PATIENT_SYSTEM, "patient_issuer": "north"}
            settings["fhir"] = {"record": reached}
            settings["destinations"]["record"] = {"kind": "fhir", "server": "record"}
            settings["routes"]["chest"]["send_to"].append("record")
        with running_gateway(folder / "gateway", settings) as gateway:
            orthanc.register("gateway", "CONSILIUM", dicom_port)
            yield Site(orthanc, gateway, service, ris, record, repository, lab_port, model, tokens)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, home: Path, tiny_folder: Path) -> Iterator[Site]:
    with site(tmp_path_factory.mktemp("site"), tiny_folder) as one:
        yield one


def laboratory_value(
    value: float, patient: str, *, control: str, issuer: str = "NORTH", status: str = "F"
) -> list[str]:
    """An ORU of one CRP, of half an hour before the images of `radiograph`."""
    return [
        f"MSH|^~\\&|LIS|LAB|CONSILIUM|HOSPITAL|20260105100000||ORU^R01^ORU_R01|{control}|P|2.5.1",
        f"PID|1||{patient}^^^{issuer}^MR||Sample^Anna||19600203|F",
        "OBR|1|P1|F1^LIS|CHEM^Chemistry^L|||20260105094500|||||||||||||||20260105100000||LAB|F",
        f"OBX|1|NM|1988-5^CRP^LN||{value}|mg/L|||||{status}|||20260105094500",
    ]


def diagnosed(folder: Path, model: Path, images: list[Any], value: float | None) -> dict[str, float]:
    """Probabilities of `consilium diagnose` on the same records."""
    folder.mkdir(exist_ok=True)
    arguments = ["diagnose", str(model), "--json", "--level", "fast"]
    for number, image in enumerate(images):
        (folder / f"{number}.dcm").write_bytes(part10(image))
        arguments += ["--image", str(folder / f"{number}.dcm")]
    if value is not None:
        record = {"code": "1988-5", "value": value, "unit": "mg/L", "time": "2026-01-05T09:45:00+01:00"}
        (folder / "values.json").write_text(json.dumps([record]))
        arguments += ["--observations", str(folder / "values.json")]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    return {one["finding"]: one["probability"] for one in json.loads(done.stdout)["findings"]}


def reported(report: pydicom.Dataset) -> list[float]:
    """The probabilities in a structured report, in their order."""
    found: list[float] = []

    def walk(item: pydicom.Dataset) -> None:
        if item.get("ValueType") == "NUM" and item.ConceptNameCodeSequence[0].CodeMeaning == "Probability":
            found.append(float(item.MeasuredValueSequence[0].NumericValue))
        for inner in item.get("ContentSequence", []):
            walk(inner)

    walk(report)
    return found


def test_results_of_a_pushed_study_are_in_the_archive_with_the_laboratorys_value_in_them(
    running: Site, tmp_path: Path
) -> None:
    images = [radiograph(1, side=128, study="W"), radiograph(2, side=128, study="W", ViewPosition="LL")]
    answer = send_hl7(running.lab_port, *laboratory_value(112.0, "P-W", control="1"))
    assert "MSA|AA|1" in answer
    study = running.push(*images)
    results = until(lambda: len(running.results(study)) == 2 and running.results(study), "results in the archive")
    assert set(results.values()) == RESULTS
    report = running.report(study)
    assert (report.PatientID, report.StudyInstanceUID) == ("P-W", study)
    assert report.PreliminaryFlag == "PRELIMINARY"
    assert is_own_object(report)
    delivered = {uid: running.orthanc.download(uid) for uid in results}
    for data in delivered.values():
        assert [line for line in complaints(data, tmp_path) if "99CONSILIUM" not in line] == []
    sent = {str(one.SOPInstanceUID): running.orthanc.download(str(one.SOPInstanceUID)) for one in images}
    assert contradictions(sent | delivered, tmp_path) == []
    expected = diagnosed(tmp_path / "records", running.model, images, 112.0)
    assert reported(report) == pytest.approx(list(expected.values()), abs=1e-6)
    assert expected != diagnosed(tmp_path / "images", running.model, images, None), "the value counts"
    (message,) = until(lambda: [one for one in running.ris.messages if "P-W" in one], "the message to the RIS")
    probabilities = [line.split("|")[5] for line in message.splitlines() if "^Probability^" in line]
    assert [float(one) for one in probabilities] == pytest.approx(list(expected.values()), abs=1e-6)
    if running.record is None:
        pytest.skip(f"all but the record system: {missing()}")
    record = running.record
    (written,) = until(lambda: record.search("DiagnosticReport"), "the report in the record system")
    (person,) = record.search("Patient", identifier=f"{PATIENT_SYSTEM}|P-W")
    assert written["subject"]["reference"] == f"Patient/{person['id']}"
    findings = [record.read(one["reference"]) for one in written["result"]]
    values = [one["component"][0]["valueQuantity"]["value"] for one in findings]
    assert values == pytest.approx(list(expected.values()), abs=1e-6)


def test_what_the_gateway_sent_is_on_the_worklist_of_the_routes_group_and_on_no_other(running: Site) -> None:
    study = running.push(radiograph(1, side=128, study="G"))
    until(lambda: len(running.results(study)) == 2, "results in the archive")
    with running.reader("ann") as ann, running.reader("bob") as bob:
        (line,) = ann.studies(search="P-G").studies
        assert (line.state, line.image_count) == ("answered", 1)
        assert len(ann.study_words(line.study_id)) == 128 * 128 * 2
        ann.read(line.study_id, {ann.model().findings[0].name: "absent"})
        answer = ann.study_answer(line.study_id)
        assert [one.probability for one in answer.findings] == pytest.approx(reported(running.report(study)), abs=1e-6)
        assert bob.studies().total == 0
        for ask in (bob.study, bob.study_words, bob.study_answer):
            with pytest.raises(ServiceProblem) as caught:
                ask(line.study_id)
            assert caught.value.status == 404


def test_the_prior_of_a_study_is_shown_beside_it_and_is_no_study_of_its_own(running: Site) -> None:
    whose = {"PatientID": "P-P", "AccessionNumber": None}
    for name, day, more in (
        ("P1", "20250105", {}),
        ("P2", "20150105", {}),
        ("P3", "20250101", {"BodyPartExamined": "KNEE"}),
        ("P4", "20250102", {"IssuerOfPatientID": "SOUTH"}),
    ):
        prior = radiograph(1, side=128, study=name, StudyDate=day, **whose, **more)
        running.orthanc.upload(part10(prior))
    running.push(radiograph(1, side=128, study="P"))
    with running.reader("ann") as ann:

        def priors() -> Any:
            lines = ann.studies(search="P-P").studies
            return lines[0].state == "answered" and ann.study(lines[0].study_id).priors if lines else None

        (shown,) = until(priors, "the prior beside the study")
        assert f"{shown.studied:%Y%m%d}" == "20250105"
        assert len(ann.study_words(shown.study_id)) == 128 * 128 * 2
        assert ann.study(shown.study_id).state == "stored"
        assert ann.studies(search="P-P").total == 1
    study = str(radiograph(1, study="P").StudyInstanceUID)
    prior_uid = str(radiograph(1, study="P1").StudyInstanceUID)
    expected = {"study": prior_uid, "source": "pacs", "outcome": "shown", "reason": None}
    until(lambda: expected in command(running.gateway, "studies", "show", study)["priors"], "the prior in the command")
    assert prior_uid not in {one["study"] for one in running.studies()}
    assert running.results(prior_uid) == {}


def test_own_results_that_come_back_are_not_read_and_change_nothing(running: Site) -> None:
    study = running.push(radiograph(1, side=128, study="B"))
    before = until(lambda: len(running.results(study)) == 2 and running.results(study), "results in the archive")
    running.orthanc.push(study, "gateway")
    time.sleep(4)
    assert running.results(study) == before
    assert [one["stage"] for one in running.studies() if one["study"] == study] == ["answered"]


def test_a_late_image_and_a_corrected_value_each_supersede_the_report(running: Site, tmp_path: Path) -> None:
    images = [radiograph(1, side=128, study="L"), radiograph(2, side=128, study="L")]
    study = running.push(images[0])
    until(lambda: len(running.results(study)) == 2, "the first result")
    running.push(images[1])
    until(lambda: len(running.results(study)) == 4, "the result with the late image")
    send_hl7(running.lab_port, *laboratory_value(240.0, "P-L", control="2"))
    until(lambda: len(running.results(study)) == 6, "the result with the value")
    report = running.report(study)
    assert int(report.InstanceNumber) == 3
    assert report.PredecessorDocumentsSequence
    expected = diagnosed(tmp_path / "records", running.model, images, 240.0)
    assert reported(report) == pytest.approx(list(expected.values()), abs=1e-6)


def test_the_answer_to_rejected_images_is_taken_back_and_leaves_the_reading_page(running: Site) -> None:
    study = running.push(radiograph(1, side=128, study="R"))
    until(lambda: len(running.results(study)) == 2, "results in the archive")
    until(lambda: [one for one in running.ris.messages if "P-R" in one], "the message to the RIS")
    with running.reader("ann") as ann:
        (line,) = ann.studies(search="P-R").studies
        ann.study(line.study_id)
        running.push(rejection_note(1, study="R", title="113037"))
        until(lambda: ann.studies(search="P-R").total == 0, "the study leaves the page")
        with pytest.raises(ServiceProblem) as caught:
            ann.study(line.study_id)
        assert caught.value.status == 404
    _, taken_back = until(lambda: len(found := [m for m in running.ris.messages if "P-R" in m]) == 2 and found, "W")
    states = {line.split("|")[11] for line in taken_back.splitlines() if line.startswith("OBX")}
    assert states == {"W"}
    assert [one["stage"] for one in running.studies() if one["study"] == study] == ["ignored"]


def test_a_value_of_another_patient_with_the_same_number_is_not_used(running: Site, tmp_path: Path) -> None:
    image = radiograph(1, side=128, study="N")
    send_hl7(running.lab_port, *laboratory_value(300.0, "P-N", issuer="SOUTH", control="3"))
    study = running.push(image)
    until(lambda: len(running.results(study)) == 2, "the result")
    expected = diagnosed(tmp_path / "records", running.model, [image], None)
    assert reported(running.report(study)) == pytest.approx(list(expected.values()), abs=1e-6)


def test_a_merge_amid_a_study_brings_its_values(running: Site, tmp_path: Path) -> None:
    image = radiograph(1, side=128, study="M")
    send_hl7(running.lab_port, *laboratory_value(180.0, "OLD-M", control="4"))
    study = running.push(image)
    until(lambda: len(running.results(study)) == 2, "the result without the value")
    merge = [
        "MSH|^~\\&|ADT|KIS|CONSILIUM|HOSPITAL|20260105120000||ADT^A40^ADT_A39|5|P|2.5.1",
        "EVN|A40|20260105120000",
        "PID|1||P-M^^^NORTH^MR||Sample^Anna||19600203|F",
        "MRG|OLD-M^^^NORTH^MR",
    ]
    assert "MSA|AA|5" in send_hl7(running.lab_port, *merge)
    until(lambda: len(running.results(study)) == 4, "the result with the value")
    expected = diagnosed(tmp_path / "records", running.model, [image], 180.0)
    assert reported(running.report(study)) == pytest.approx(list(expected.values()), abs=1e-6)


def test_a_killed_gateway_goes_on_where_it_was_and_delivers_once(running: Site) -> None:
    studies = []
    for number, pause in enumerate((0.0, 1.5, 2.5)):
        studies.append(running.push(radiograph(1, side=128, study=f"K{number}")))
        time.sleep(pause)
        running.gateway.kill()
        running.gateway.start()
    for study in studies:
        until(lambda study=study: len(running.results(study)) == 2, "the results after a death")
    time.sleep(3)
    assert [len(running.results(study)) for study in studies] == [2] * len(studies)
    assert all(sum(study in one for one in running.ris.messages) >= 1 for study in studies)
    for study in studies:
        shown = command(running.gateway, "studies", "show", study)
        assert (shown["stage"], len(shown["revisions"])) == ("answered", 1)


def test_a_killed_service_that_is_started_again_gives_each_study_one_result(running: Site) -> None:
    def stage(study: str) -> Any:
        return next((one["stage"] for one in running.studies() if one["study"] == study), None)

    names = [f"S{number}" for number in range(4)]
    first, *others = (radiograph(1, side=128, study=name) for name in names)
    studies = [running.push(first)]
    until(lambda: stage(studies[0]) in ("requested", "answered"), "the service is asked")
    studies.append(running.push(others[0]))
    running.service.kill()
    studies += [running.push(one) for one in others[1:]]
    waits = "the service cannot be reached"
    until(lambda: waits in [one["problem"] for one in running.studies() if one["study"] in studies], "a study waits")

    running.service.start()

    for study in studies:
        until(lambda study=study: len(running.results(study)) == 2, "the results after the service's death")
    with running.reader("ann") as ann:
        assert [ann.studies(search=f"P-{name}").total for name in names] == [1] * len(names)
    for study in studies:
        shown = command(running.gateway, "studies", "show", study)
        assert (shown["stage"], len(shown["revisions"]), len(running.results(study))) == ("answered", 1, 2)
        until(lambda study=study: any(study in one for one in running.ris.messages), "the message to the RIS")
        assert sum(study in one for one in running.ris.messages) == 1


def test_the_audit_repository_is_told_what_came_what_was_asked_and_what_went_out_each_once(running: Site) -> None:
    study = running.push(radiograph(1, side=128, study="A"))
    asked = b64encode(f"StudyInstanceUID={study}".encode()).decode()

    def told() -> list[etree._Element]:
        messages = [etree.fromstring(one.partition(b"\xef\xbb\xbf")[2]) for one in running.repository.messages]
        return [
            one for one in messages if study in one.xpath("//@ParticipantObjectID") or asked in one.xpath("//text()")
        ]

    def codes(action: str) -> list[str]:
        found = [one.find("EventIdentification") for one in told()]
        return sorted(one.find("EventID").get("csd-code") for one in found if one.get("EventActionCode") == action)

    out = ["110104", "110104", "110106"]
    until(lambda: codes("R") == out, "report and capture to the archive, the message to the RIS")
    until(lambda: codes("C") == ["110104"], "the image that came")
    assert codes("R") == out
    others = codes("E")
    assert others.count("110102") == 2
    assert set(others) == {"110102", "110112"}, "each object is begun, and the archive was asked what it has"
    for message in told():
        SCHEMA.assertValid(message)
        people = message.xpath("ParticipantObjectIdentification[@ParticipantObjectTypeCode='1']/@ParticipantObjectID")
        event = message.find("EventIdentification/EventID").get("csd-code")
        assert people == ([] if event == "110112" else ["P-A^^^north"]), event


def test_nothing_of_a_patient_is_in_the_log(running: Site) -> None:
    for word in ("P-W", "Sample", "Anna", "19600203", "ACC-W", "112.0"):
        assert word not in running.gateway.log
