"""The examples in `deploy/`: each is what its schema allows, names settings that exist, and fits the others."""

from __future__ import annotations

import configparser
import os
import re
import shlex
import shutil
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import typer
import yaml
from compose_spec import PyCompose

from consilium.cli import INTERRUPTED
from consilium.cli import app as command_line
from consilium.system.environment import Variable
from hospital.configuration.settings_file import read_settings as read_gateway
from service.audit_log.database import read_url
from service.audit_log.pseudonyms import read_keys
from service.observability.traffic import _PROBES
from service.rollout.rollout_plan import load_plan
from service.settings import PREFIX, Settings, load_settings
from tests.conftest import ROOT

DEPLOY = ROOT / "deploy"
KUBERNETES = DEPLOY / "kubernetes"
VERSION = "1.37"
COMPOSE_TEXT = (DEPLOY / "compose.yaml").read_text(encoding="utf-8")
COMPOSE: dict[str, Any] = yaml.safe_load(COMPOSE_TEXT)
SERVICES: dict[str, Any] = COMPOSE["services"]
PROMETHEUS: dict[str, Any] = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yaml").read_text(encoding="utf-8"))
LOOP = ("retrain", "monitor", "rollout")
"""Services that a clock starts, and that end."""
IMAGE_USER = 1034
"""Of BentoML's images."""


def documents(*folders: str) -> list[dict[str, Any]]:
    """Every Kubernetes object below the `folders` of `deploy/kubernetes`, the files of examples with ``""``."""
    places = [KUBERNETES / folder for folder in folders]
    files = [file for place in places for file in sorted(place.glob("*.yaml")) if file.name != "kustomization.yaml"]
    return [one for file in files for one in yaml.safe_load_all(file.read_text(encoding="utf-8"))]


def called(kind: str, name: str, found: list[dict[str, Any]]) -> dict[str, Any]:
    (one,) = (one for one in found if (one["kind"], one["metadata"]["name"]) == (kind, name))
    return one


def merged(base: Any, patch: Any) -> Any:
    """As kustomize merges what these patches hold: mappings by key, lists of named things by name."""
    if isinstance(base, dict) and isinstance(patch, dict):
        return base | {key: merged(base.get(key), value) for key, value in patch.items()}
    if isinstance(base, list) and isinstance(patch, list) and all("name" in one for one in [*base, *patch]):
        patches = {one["name"]: one for one in patch}
        assert patches.keys() <= {one["name"] for one in base}
        return [merged(one, patches.get(one["name"], {})) for one in base]
    return patch


def gpu() -> list[dict[str, Any]]:
    patches = documents("gpu")
    return [merged(called(one["kind"], one["metadata"]["name"], documents("base")), one) for one in patches]


def pods(found: list[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Each workload with its pod."""
    for one in found:
        if one["kind"] in ("Deployment", "StatefulSet"):
            yield one, one["spec"]["template"]


EVERYTHING = documents("", "base", "registry") + gpu()


# --- settings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "file", sorted(file for file in DEPLOY.rglob("*") if file.is_file()), ids=lambda file: file.name
)
def test_every_setting_that_is_named_exists(file: Path) -> None:
    named = set(re.findall(rf"\b{PREFIX}[A-Z_]+\b", file.read_text(encoding="utf-8")))

    assert named <= {PREFIX + field.upper() for field in Settings.model_fields} | set(Variable)


@pytest.mark.parametrize(
    "given",
    [
        SERVICES["consilium"]["environment"],
        called("ConfigMap", "consilium", documents("base"))["data"],
        called("ConfigMap", "consilium", gpu())["data"],
    ],
    ids=["compose", "kubernetes", "gpu"],
)
def test_the_service_takes_what_it_is_given(given: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert all(isinstance(value, str) for value in given.values())
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    settings = load_settings()

    assert settings.model == "models:/consilium-phantom-demo@champion"
    assert not settings.insecure
    assert read_url(settings.audit_log_url.get_secret_value()).password is None, "a password is a secret"


# --- Kubernetes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("document", EVERYTHING, ids=lambda one: f"{one['kind']} {one['metadata']['name']}")
def test_every_object_is_what_its_schema_allows(document: dict[str, Any]) -> None:
    kubernetes_validate.validate(document, VERSION, strict=True)


@pytest.mark.parametrize(("key", "value"), [("replica", 2), ("replicas", "two")])
def test_the_schemas_refuse_what_is_wrong(key: str, value: object) -> None:
    deployment = called("Deployment", "consilium", documents("base"))
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(deployment | {"spec": deployment["spec"] | {key: value}}, VERSION, strict=True)


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
@pytest.mark.parametrize("overlay", ["base", "gpu", "registry"])
def test_kustomize_renders_it_in_one_namespace(overlay: str) -> None:
    command = ["kubectl", "kustomize", KUBERNETES / overlay]
    rendered = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = list(yaml.safe_load_all(rendered))
    for one in found:
        kubernetes_validate.validate(one, VERSION, strict=True)

    assert {one["metadata"].get("namespace", one["metadata"]["name"]) for one in found} == {"consilium"}
    images = {c["image"] for _, pod in pods(found) for c in pod["spec"]["containers"]}
    assert images <= {"registry.hospital.example/consilium:0.1.0", "postgres:17.6"}
    if overlay == "gpu":
        for _, pod in pods(found):
            assert pod["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"
        assert called("ConfigMap", "consilium", found)["data"]["CONSILIUM_DEVICE"] == "cuda"


@pytest.mark.parametrize("folder", ["base", "gpu", "registry", "training"])
def test_every_file_of_an_overlay_is_part_of_it(folder: str) -> None:
    kustomization = yaml.safe_load((KUBERNETES / folder / "kustomization.yaml").read_text(encoding="utf-8"))
    named = {one for one in kustomization["resources"] if one.endswith(".yaml")} | {
        p["path"] for p in kustomization.get("patches", [])
    }

    assert named == {file.name for file in (KUBERNETES / folder).iterdir()} - {"kustomization.yaml"}


def test_no_container_may_more_than_it_must() -> None:
    for _, pod in pods(EVERYTHING):
        spec = pod["spec"]
        assert spec["automountServiceAccountToken"] is False
        assert spec["securityContext"]["runAsNonRoot"] is True
        for container in spec["containers"]:
            allowed = container["securityContext"]
            assert allowed["readOnlyRootFilesystem"] is True
            assert allowed["allowPrivilegeEscalation"] is False
            assert allowed["capabilities"] == {"drop": ["ALL"]}
            assert {"cpu", "memory"} <= container["resources"]["limits"].keys()
            assert {"startupProbe", "readinessProbe", "livenessProbe"} <= container.keys()


def test_the_service_is_asked_at_its_own_probes_and_has_time_to_drain() -> None:
    spec = called("Deployment", "consilium", documents("base"))["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    probes = {name: container[name]["httpGet"]["path"] for name in ("startupProbe", "readinessProbe", "livenessProbe")}
    assert probes == {"startupProbe": "/readyz", "readinessProbe": "/readyz", "livenessProbe": "/livez"}
    assert set(probes.values()) <= _PROBES

    drain = int(container["args"][container["args"].index("--timeout-graceful-shutdown") + 1])
    pause = int(container["lifecycle"]["preStop"]["exec"]["command"][1])
    assert spec["terminationGracePeriodSeconds"] > pause + drain
    assert spec["securityContext"]["runAsUser"] == IMAGE_USER
    memory = {volume["name"]: volume.get("emptyDir", {}).get("medium") for volume in spec["volumes"]}
    mounted = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    settings = called("ConfigMap", "consilium", documents("base"))["data"]
    assert memory[mounted[settings["TMPDIR"]]] == "Memory"
    assert settings["CONSILIUM_HOME"] in mounted


def test_selectors_ports_and_secrets_lead_somewhere() -> None:
    found = documents("", "base", "registry")
    labels = [pod["metadata"]["labels"] for _, pod in pods(found)]
    ports = {port["name"] for _, pod in pods(found) for c in pod["spec"]["containers"] for port in c["ports"]}
    selectors = [one["spec"]["selector"] for one in found if one["kind"] == "Service"]
    selectors += [one["spec"]["selector"]["matchLabels"] for one in found if one["kind"] == "PodDisruptionBudget"]
    selectors += [one["spec"]["podSelector"]["matchLabels"] for one in found if one["kind"] == "NetworkPolicy"]
    assert all(any(selector.items() <= one.items() for one in labels) for selector in selectors)
    assert {p["targetPort"] for one in found if one["kind"] == "Service" for p in one["spec"]["ports"]} <= ports

    secrets = {one["metadata"]["name"]: one["stringData"].keys() for one in found if one["kind"] == "Secret"}
    for _, pod in pods(found):
        for volume in pod["spec"]["volumes"]:
            items = volume.get("secret", {}).get("items", [])
            assert {item["key"] for item in items} <= secrets.get(volume.get("secret", {}).get("secretName"), set())
        for variable in pod["spec"]["containers"][0].get("env", []):
            wanted = variable.get("valueFrom", {}).get("secretKeyRef")
            assert wanted is None or wanted["key"] in secrets[wanted["name"]]


# --- retraining by the clock -----------------------------------------------------------------------------------------


def _options(words: list[str]) -> dict[str, list[str]]:
    """The values of each option of a `consilium retrain`, which must take them all."""
    taken = typer.main.get_command(command_line).commands["retrain"].make_context("retrain", list(words)).params  # type: ignore[attr-defined]
    return {name: [str(one) for one in value] for name, value in taken.items() if isinstance(value, list | tuple)}


def test_a_job_retrains_one_at_a_time_and_ends_itself_before_it_is_ended() -> None:
    job = called("CronJob", "consilium-retrain", documents("training"))
    kubernetes_validate.validate(job, VERSION, strict=True)
    assert job["spec"]["concurrencyPolicy"] == "Forbid"
    spec = job["spec"]["jobTemplate"]["spec"]
    (container,) = spec["template"]["spec"]["containers"]
    words = container["command"][container["command"].index("retrain") + 1 :]
    assert _options(words)["cohort"] == ["/data/store", "/data/incoming"]
    assert float(words[words.index("--hours") + 1]) * 3600 < spec["activeDeadlineSeconds"]
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert spec["template"]["spec"]["securityContext"]["runAsNonRoot"] is True


def _accepted(words: list[str]) -> str:
    """The command that `words` are of `consilium`, whose options must be its own."""
    command, rest = typer.main.get_command(command_line), list(words)
    while hasattr(command, "commands"):
        command = command.commands[rest.pop(0)]
    command.make_context(str(command.name), list(rest))
    return " ".join(words[: len(words) - len(rest)])


@pytest.mark.parametrize("name", ["monitor", "rollout"])
def test_the_monitor_and_the_rollout_are_started_by_a_clock_everywhere_alike(name: str) -> None:
    job = called("CronJob", f"consilium-{name}", documents("training"))
    kubernetes_validate.validate(job, VERSION, strict=True)
    spec = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert job["spec"]["concurrencyPolicy"] == "Forbid"
    mounted = {mount["mountPath"] for mount in container["volumeMounts"]}
    keys = next(one["value"] for one in container["env"] if one["name"] == "CONSILIUM_AUDIT_LOG_KEYS")
    assert str(Path(keys).parent) in mounted
    unit = configparser.RawConfigParser(strict=False)
    unit.optionxform = str  # type: ignore[assignment]
    unit.read(DEPLOY / "systemd" / f"consilium-{name}.service")
    commands = [SERVICES[name]["command"], container["command"]]
    started = [words[3:] for words in commands] + [shlex.split(unit["Service"]["ExecStart"])[1:]]
    assert {_accepted(words) for words in started} == {f"{name} run"}
    timer = configparser.RawConfigParser()
    timer.read(DEPLOY / "systemd" / f"consilium-{name}.timer")
    assert timer["Timer"]["oncalendar"]


def test_a_timer_retrains_and_the_end_of_its_hours_is_no_failure() -> None:
    unit = configparser.RawConfigParser(strict=False)
    unit.optionxform = str  # type: ignore[assignment]
    unit.read(DEPLOY / "systemd" / "consilium-retrain.service")
    command = shlex.split(unit["Service"]["ExecStart"])
    assert command[1] == "retrain"
    assert _options(command[2:])["cohort"] == ["store", "incoming"]
    assert int(unit["Service"]["SuccessExitStatus"]) == INTERRUPTED
    timer = configparser.RawConfigParser()
    timer.read(DEPLOY / "systemd" / "consilium-retrain.timer")
    assert timer["Timer"]["oncalendar"] == "Sat 20:00"


# --- compose ---------------------------------------------------------------------------------------------------------


def compose(text: str) -> PyCompose:
    # Merge keys are YAML's, and resolved before compose looks at anything.
    return PyCompose.from_yaml(yaml.safe_dump(yaml.safe_load(text)))


def test_the_compose_file_is_what_its_specification_allows() -> None:
    assert set(compose(COMPOSE_TEXT).service_names()) == {
        "consilium",
        "mlflow",
        "postgres",
        "prometheus",
        "grafana",
        "gateway",
        *LOOP,
    }


@pytest.mark.parametrize(
    ("right", "wrong", "where"),
    [
        ("stop_grace_period: 45s", "stop_grace_period: soon", "consilium.stop_grace_period"),
        ("condition: service_healthy", "condition: service_healty", "consilium.depends_on.mlflow.condition"),
        ("healthcheck:", "healtcheck:", "extension key `healtcheck`"),
        ("memory: 12g", "memory: lots", "limits.memory"),
    ],
)
def test_the_specification_refuses_what_is_wrong(right: str, wrong: str, where: str) -> None:
    assert right in COMPOSE_TEXT
    with pytest.raises(ValueError, match=where):
        compose(COMPOSE_TEXT.replace(right, wrong, 1))


def test_all_that_compose_services_name_is_there_and_used() -> None:
    for kind in ("secrets", "configs", "networks", "volumes"):
        used = set()
        for service in SERVICES.values():
            for one in service.get(kind, []):
                used.add(one["source"] if isinstance(one, dict) else one.partition(":")[0])
        assert used == COMPOSE[kind].keys(), kind
    for config in COMPOSE["configs"].values():
        assert (DEPLOY / config["file"]).is_file()


@pytest.mark.parametrize("name", SERVICES)
def test_every_compose_service_is_watched_limited_and_confined(name: str) -> None:
    service = SERVICES[name]
    assert service["profiles"] == ["loop"] if name in LOOP else service["healthcheck"]["test"]
    assert ("profiles" in service) == (name in (*LOOP, "gateway"))
    assert service["restart"] == ("no" if name in LOOP else "unless-stopped")
    assert {"cpus", "memory"} <= service["deploy"]["resources"]["limits"].keys()
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert not service["user"].startswith("0")
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))


def test_the_compose_service_has_time_to_drain_and_is_scraped_where_it_listens() -> None:
    service = SERVICES["consilium"]
    command = service["command"]
    assert int(service["stop_grace_period"].removesuffix("s")) > int(
        command[command.index("--timeout-graceful-shutdown") + 1]
    )
    port = command[command.index("--port") + 1]
    job, gateway = PROMETHEUS["scrape_configs"]
    assert job["static_configs"] == [{"targets": [f"consilium:{port}"]}]
    assert job["authorization"]["credentials_file"] == "/run/secrets/metrics-token"
    rules = {one["target"] for one in SERVICES["prometheus"]["configs"]}
    assert {f"/etc/prometheus/{alerts}" for alerts in PROMETHEUS["rule_files"]} < rules
    assert gateway["job_name"] == "consilium-gateway", "by this name its alerts know it"
    (provider,) = yaml.safe_load((DEPLOY / "grafana" / "dashboards.yaml").read_text(encoding="utf-8"))["providers"]
    mounted = {one["source"]: one["target"] for one in SERVICES["grafana"]["configs"]}
    for dashboard in ("grafana-consilium", "grafana-gateway"):
        assert Path(mounted[dashboard]).parent == Path(provider["options"]["path"])


def test_the_compose_gateway_has_what_its_settings_name() -> None:
    service, settings = SERVICES["gateway"], read_gateway(DEPLOY / "gateway-compose.yaml")
    (given,) = service["configs"]
    assert (COMPOSE["configs"][given["source"]]["file"], given["target"]) == (
        "./gateway-compose.yaml",
        service["command"][-1],
    )
    (volume,) = service["volumes"]
    place = Path(volume.partition(":")[2])
    assert {settings.store.folder.parent, settings.store.key_file.parent} == {place}
    image = (DEPLOY / "gateway.dockerfile").read_text(encoding="utf-8")
    assert f"-o {IMAGE_USER} -g {IMAGE_USER} {place}" in image, "a new volume has the owner of the image's folder"
    assert int(service["user"].partition(":")[0]) == IMAGE_USER
    asked = settings.services["default"]
    assert (asked.url, asked.token and asked.token.file) == (
        "http://consilium:3000",
        Path("/run/secrets") / service["secrets"][0],
    )
    assert {"hospital"} <= set(service["networks"]) & set(SERVICES["consilium"]["networks"])
    assert "monitoring" in set(service["networks"]) & set(SERVICES["prometheus"]["networks"])
    assert settings.dicom is not None
    listening = [settings.dicom.listen, *(one.listen for one in settings.hl7.values())]
    assert [f"127.0.0.1:{one.port}:{one.port}" for one in listening] == service["ports"]
    assert {one.host for one in (*listening, settings.http.listen)} == {"0.0.0.0"}
    health = f":{settings.http.listen.port}"
    assert f"http://127.0.0.1{health}/readyz" in service["healthcheck"]["test"][-1]
    assert PROMETHEUS["scrape_configs"][1]["static_configs"] == [{"targets": [f"gateway{health}"]}]


def test_the_command_of_the_compose_gateway_is_there() -> None:
    command = SERVICES["gateway"]["command"]
    assert command[:3] == ["python", "-m", "consilium.cli"]
    found = typer.main.get_command(command_line)
    for name in command[3:5]:
        found = found.commands[name]  # type: ignore[attr-defined]
    assert found.name == "run"


@pytest.mark.skipif(os.geteuid() != 0, reason="files for the users of containers are root's to make")
def test_secrets_are_made_once_for_those_who_read_them(tmp_path: Path) -> None:
    script = Path(shutil.copy(DEPLOY / "make-secrets.sh", tmp_path))
    subprocess.run([script], check=True)
    made = {file.name: file for file in (tmp_path / "secrets").iterdir()}

    assert {f"./secrets/{name}" for name in made} == {one["file"] for one in COMPOSE["secrets"].values()}
    assert {stat.S_IMODE(file.stat().st_mode) for file in made.values()} == {0o600}
    assert len(read_keys(made["audit-log.keys"]).newest.id) == 8
    for service, user in (("consilium", "consilium"), ("mlflow", "mlflow")):
        host, port, database, role, password = made[f"{user}.pgpass"].read_text().strip().split(":")
        assert (host, port, database, role) == ("postgres", "5432", user, user)
        assert f"CREATE ROLE {user} LOGIN PASSWORD '{password}';" in made["databases.sql"].read_text()
        assert made[f"{user}.pgpass"].stat().st_uid == IMAGE_USER == int(SERVICES[service]["user"].partition(":")[0])
    for service, name in (
        ("postgres", "databases.sql"),
        ("prometheus", "metrics-token"),
        ("gateway", "gateway-token"),
        ("grafana", "grafana-password"),
    ):
        assert made[name].stat().st_uid == int(SERVICES[service]["user"].partition(":")[0])

    before = made["audit-log.keys"].read_bytes()
    assert subprocess.run([script], check=False, capture_output=True).returncode == 1
    assert made["audit-log.keys"].read_bytes() == before


def test_alerts_ask_for_metrics_that_there_are() -> None:
    (group,) = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yaml").read_text(encoding="utf-8"))["groups"]
    asked = {name for rule in group["rules"] for name in re.findall(r"consilium_\w+", rule["expr"])}
    gauges = (DEPLOY.parent / "training" / "monitoring" / "output" / "monitor_gauges.py").read_text(encoding="utf-8")
    monitored = {name for name in asked if name.startswith("consilium_monitor_")}
    assert all(f'gauge("{name.removeprefix("consilium_monitor_")}"' in gauges for name in monitored)
    assert asked - monitored == {"consilium_requests_total"}


def test_the_example_of_a_rollout_is_a_plan() -> None:
    plan = load_plan(DEPLOY / "rollout.yaml")

    assert [stage.title for stage in plan.stages] == ["shadow", "canary 5%", "canary 25%"]
