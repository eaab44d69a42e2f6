"""gateway.yaml: what is wrong, with which value, what is expected; and never a secret."""

from __future__ import annotations

from datetime import timedelta
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
import yaml

from consilium.domain.errors import InputError
from hospital.configuration.gateway_settings import GatewaySettings
from hospital.configuration.network_settings import Address, Secret
from hospital.configuration.route_settings import DicomDestination
from hospital.configuration.settings_file import SettingsProblems, read_settings

WHOLE = """
time_zone: Europe/Berlin
store: {folder: state, key_file: /etc/consilium/store.key, free: 10GB, keep: 14d}
services:
  default: {url: "http://127.0.0.1:3000/", token: {env: GATEWAY_TEST_TOKEN}}
http: {listen: "127.0.0.1:8042"}
dicom: {ae_title: CONSILIUM, listen: "0.0.0.0:11112", largest_object: 512MB}
peers:
  pacs: {ae_title: ORTHANC, address: "10.0.0.5:4242", may: [send, be asked, receive], patient_issuer: hospital}
  modality: {ae_title: DX1, networks: [10.0.1.0/24]}
hl7:
  port: {listen: "0.0.0.0:2575", senders: {lis: {networks: [10.0.2.7], encoding: latin-1}}}
identifiers:
  hospital: {known_as: ["1.2.276.0.76", "HOSP"]}
local_codes:
  - {system: LAB, code: CRP, means: 1988-5}
completeness: {quiet: 90s, proofs: [count_of_source, views], views: [PA, LL], deadline: 1h}
routes:
  chest: {when: {modalities: [DX, CR], body_parts: [CHEST]}, send_to: [archive]}
destinations:
  archive: {kind: dicom, peer: pacs, objects: [sr, sc, seg]}
"""


def written(folder: Path, content: str) -> Path:
    path = folder / "gateway.yaml"
    path.write_text(content, encoding="utf-8")
    return path


def changed(folder: Path, place: str, value: Any) -> Path:
    """`WHOLE` with `value` at `place`, keys joined by dots."""
    data = yaml.safe_load(WHOLE)
    *parents, last = place.split(".")
    section = data
    for parent in parents:
        section = section[parent]
    section[last] = value
    return written(folder, yaml.safe_dump(data, sort_keys=False))


def problem(path: Path) -> str:
    with pytest.raises(SettingsProblems) as caught:
        read_settings(path)
    (line,) = str(caught.value).splitlines()
    return line.removeprefix(f"{path}: ")


def test_every_value_is_read_as_it_is_meant(tmp_path: Path) -> None:
    settings = read_settings(written(tmp_path, WHOLE))

    assert settings.store.folder == tmp_path / "state"
    assert settings.store.key_file == Path("/etc/consilium/store.key")
    assert (settings.store.free, settings.store.keep) == (10 * 10**9, timedelta(days=14))
    assert settings.store.database_url().database == str(tmp_path / "state" / "gateway.db")
    assert settings.services["default"].url == "http://127.0.0.1:3000"
    assert settings.dicom is not None
    assert settings.dicom.listen == Address("0.0.0.0", 11112)
    assert settings.peers["pacs"].may == {"send", "be asked", "receive"}
    assert settings.peers["modality"].networks == (ip_network("10.0.1.0/24"),)
    assert settings.hl7["port"].senders["lis"].networks == (ip_network("10.0.2.7/32"),)
    assert settings.completeness.quiet == timedelta(seconds=90)
    assert settings.routes["chest"].when.modalities == {"DX", "CR"}
    assert settings.destinations["archive"] == DicomDestination(kind="dicom", peer="pacs", objects=("sr", "sc", "seg"))


INPUTS = "must be a name of `dicomweb`, or of a peer that may `be asked` and sends to `dicom`"
WORKLIST = {"url": "http://127.0.0.1:9", "codes": [{"value": "A", "scheme": "99S", "meaning": "A"}]}


@pytest.mark.parametrize(
    ("place", "value", "expected"),
    [
        (
            "worklists",
            {"orders": {**WORKLIST, "inputs": "modality"}},
            f"worklists.orders.inputs: got 'modality', {INPUTS}",
        ),
        (
            "routes.chest.priors",
            {"sources": ["pacs"]},
            "routes.chest: got 'a section', must give reading_group with priors: its readers are who sees them",
        ),
        (
            "routes.chest",
            {"reading_group": "chest", "priors": {"sources": ["modality"]}},
            f"routes.chest.priors.sources: got 'modality', {INPUTS}",
        ),
        ("stor", {}, "stor: got 'stor', is no known key; the nearest is 'store'"),
        ("peers.pacs.adress", "a:1", "peers.pacs.adress: got 'adress', is no known key; the nearest is 'address'"),
        (
            "routes.chest.when.modality",
            ["DX"],
            "routes.chest.when.modality: got 'modality', is no known key; the nearest is 'modalities'",
        ),
        ("destinations.archive.objcts", [], "destinations.archive.objcts: got 'objcts', is no known key; the nearest"),
        ("time_zone", "Berlin", "time_zone: got 'Berlin', must be the name of a time zone in the IANA database"),
        ("store.keep", "30 days", "store.keep: got '30 days', must be a number with its unit, such as 60s"),
        ("store.keep", "0d", "store.keep: got '0d', must be greater than"),
        ("store.free", 5, "store.free: got 5, must be a number with its unit, such as 512MB"),
        ("http.listen", "8042", "http.listen: got '8042', must read HOST:PORT"),
        ("http.listen", "h:70000", "http.listen: got 'h:70000', must read HOST:PORT"),
        ("routes.chest.when.age", {"at_least": 90, "below": 18}, "routes.chest.when.age: got 'a section', at_least"),
        ("routes.chest.when.priorities", ["now"], "routes.chest.when.priorities.0: got 'now'"),
        (
            "hl7.port.senders.lis.fingerprint",
            "ab" * 32,
            "hl7.port: got 'a section', must give tls with ca: a certificate is wanted of lis",
        ),
        ("delivery", {"give_up": "soon"}, "delivery.give_up: got 'soon', must be a number with its unit"),
        ("dicom.ae_title", "A" * 17, "dicom.ae_title: got 'AAAAAAAAAAAAAAAAA', must be 1 to 16 printable characters"),
        ("services.default.url", "ftp://a", "services.default.url: got 'ftp://a', must be an http or https URL"),
        (
            "peers.modality.networks",
            ["10.0.0.1/8"],
            "peers.modality.networks.0: got '10.0.0.1/8', must be an address",
        ),
        ("peers.modality.may", ["be asked"], "peers.modality: got 'a section', must give an address"),
        (
            "peers.modality.networks",
            [],
            "peers.modality: got 'a section', must give networks or an address",
        ),
        ("routes.chest.service", "other", "routes.chest.service: got 'other', must be a name of `services`: default"),
        ("routes.chest.send_to", ["ris"], "routes.chest.send_to: got 'ris', must be a name of `destinations`: archive"),
        ("destinations.archive.peer", "modality", "destinations.archive.peer: got 'modality', must be a peer that may"),
        ("destinations.archive.peer", "none", "destinations.archive.peer: got 'none', must be a name of `peers`"),
        ("destinations.archive.kind", "fax", "destinations.archive: got 'a section', input tag 'fax' found using"),
        ("peers.pacs.patient_issuer", "x", "peers.pacs.patient_issuer: got 'x', must be a name of `identifiers`"),
        ("completeness.views", [], "completeness: got 'a section', must list views: they are named as a proof"),
        ("completeness.deadline", "10s", "completeness: got 'a section', deadline must not be shorter than quiet"),
        (
            "hl7.port.senders.lis.encoding",
            "klingon",
            "hl7.port.senders.lis: got 'a section', encoding must be one",
        ),
        ("hl7.port.senders", {"pacs": {"networks": ["::1"]}}, "pacs: got 'pacs', must be the name of one system"),
        ("routes", {}, "routes: got 'a section', dictionary should have at least 1 item"),
        ("identifiers.b", {"known_as": ["HOSP"]}, "identifiers.b.known_as: got 'HOSP', must name one authority"),
    ],
)
def test_what_is_wrong_is_one_line_with_key_value_and_rule(
    tmp_path: Path, place: str, value: Any, expected: str
) -> None:
    assert problem(changed(tmp_path, place, value)).startswith(expected)


def test_every_problem_is_named_at_once(tmp_path: Path) -> None:
    path = written(tmp_path, WHOLE.replace("Europe/Berlin", "Nowhere").replace("127.0.0.1:8042", "here"))

    with pytest.raises(SettingsProblems) as caught:
        read_settings(path)

    assert [one.field for one in caught.value.problems] == ["time_zone", "http.listen"]
    assert all(line.startswith(f"{path}: ") for line in str(caught.value).splitlines())


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("services.default.token", "hunter2-secret"),
        ("services.default.token", {"value": "hunter2-secret"}),
        ("services.default.token", {"env": "A", "file": "hunter2-secret"}),
        ("services.default.url", "http://user:hunter2-secret@host"),
        ("store.url", "postgresql://user:hunter2-secret@host/db"),
        ("store.password", ["hunter2-secret"]),
    ],
)
def test_a_secret_in_the_file_is_refused_and_not_shown(tmp_path: Path, place: str, value: Any) -> None:
    shown = problem(changed(tmp_path, place, value))

    assert "hunter2" not in shown
    assert any(
        rule in shown for rule in ("does not stand in this file", "no known key", "a token has a place", "no password")
    )


def test_a_secret_is_read_from_its_variable_or_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = read_settings(written(tmp_path, WHOLE))
    service = settings.services["default"]
    with pytest.raises(InputError, match=r"services\.default\.token: got 'variable GATEWAY_TEST_TOKEN'"):
        service.headers("services.default")
    monkeypatch.setenv("GATEWAY_TEST_TOKEN", "abc\n")
    assert service.headers("services.default") == {"Authorization": "Bearer abc"}

    (tmp_path / "token").write_text("from a file\n")
    secret = Secret.model_validate({"file": "token"}, context={"folder": tmp_path})
    assert secret.read("token") == "from a file"
    with pytest.raises(InputError, match="must be a file that can be read"):
        Secret.model_validate({"file": "none"}, context={"folder": tmp_path}).read("token")


def test_the_password_of_a_database_comes_from_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_TEST_PASSWORD", "s3cret")
    store = {"folder": "s", "key_file": "k", "url": "postgresql://gateway@db/gateway"}
    settings = read_settings(changed(tmp_path, "store", {**store, "password": {"env": "GATEWAY_TEST_PASSWORD"}}))

    assert settings.store.database_url().password == "s3cret"


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        ("a: [", r"must be YAML \(line 1: expected the node content"),
        ("x: 2020-13-45", "must be YAML"),
        ("? [a]\n: 1", "must be YAML"),
        ("just text", "must be a mapping"),
        ("", "must be a mapping"),
        ("peers: {a: 1, a: 2}", r"line 1: got 'a', must stand once"),
        ("x: !!python/object/apply:os.system [ls]", "must be YAML"),
    ],
)
def test_what_is_no_mapping_in_yaml_is_refused(tmp_path: Path, content: str, rule: str) -> None:
    with pytest.raises(InputError, match=rule):
        read_settings(written(tmp_path, content))


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="must be a file that can be read"):
        read_settings(tmp_path / "none.yaml")


def test_nothing_is_changed_once_it_is_read(tmp_path: Path) -> None:
    settings: Any = read_settings(written(tmp_path, WHOLE))

    with pytest.raises(ValueError, match="frozen"):
        settings.time_zone = "UTC"
    assert isinstance(settings, GatewaySettings)
