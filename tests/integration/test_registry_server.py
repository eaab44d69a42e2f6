"""The registry behind MLflow's own server, its artifacts in an object store: what a hospital shares."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from consilium.artifacts import model_registry as registry
from consilium.artifacts.artifact import save_artifact
from consilium.artifacts.manifest import verify
from consilium.artifacts.mlflow_store import experiment_id, open_store
from consilium.artifacts.version_events import GateRecord, note_gate
from consilium.domain.errors import RegistryError
from tests.consilium.tiny_artifact import tiny_artifact
from tests.integration.mlflow_server import MlflowServer

KEYS = {"AWS_ACCESS_KEY_ID": "made-up", "AWS_SECRET_ACCESS_KEY": "made-up", "AWS_DEFAULT_REGION": "eu-central-1"}


@pytest.fixture(scope="module")
def objects() -> Iterator[Any]:
    """A client of an S3-compatible store with the bucket `consilium`."""
    store = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    store.start()
    try:
        host, port = store.get_host_and_port()
        keys = {key.lower(): value for key, value in KEYS.items() if key != "AWS_DEFAULT_REGION"}
        client = boto3.client(
            "s3", endpoint_url=f"http://{host}:{port}", region_name=KEYS["AWS_DEFAULT_REGION"], **keys
        )
        place = {"LocationConstraint": KEYS["AWS_DEFAULT_REGION"]}
        client.create_bucket(Bucket="consilium", CreateBucketConfiguration=place)
        yield client
    finally:
        store.stop()


@pytest.fixture(scope="module")
def server(objects: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URI of a running server, which alone has the keys of the store."""
    reached = KEYS | {"MLFLOW_S3_ENDPOINT_URL": objects.meta.endpoint_url}
    running = MlflowServer(tmp_path_factory.mktemp("server"), "s3://consilium/models", reached)
    try:
        running.start()
        yield running.url
    finally:
        running.kill()


def test_a_model_goes_through_a_server(
    server: str, objects: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    monkeypatch.setenv("CONSILIUM_HOME", str(tmp_path / "home"))
    artifact, folder = tiny_artifact(), tmp_path / "tiny"
    digest = save_artifact(folder, artifact)
    run_id = open_store(create=True).create_run(experiment_id("tests")).info.run_id
    version = registry.register(folder, artifact.recipe, run_id, {"git_commit": "abc"})
    note_gate("consilium-tiny", version, GateRecord(True, "d" * 64, digest, run_id))
    registry.promote("consilium-tiny", version, "good")
    resolved = registry.resolve("models:/consilium-tiny@champion")
    assert resolved.identity.manifest_digest == digest == verify(resolved.folder)
    assert resolved.folder.is_relative_to(tmp_path / "home")
    stored = [one["Key"] for one in objects.list_objects_v2(Bucket="consilium")["Contents"]]
    assert {path.name for path in folder.rglob("*") if path.is_file()} <= {Path(key).name for key in stored}
    assert all(key.startswith("models/") for key in stored)
    with pytest.raises(RegistryError, match="there is: challenger, champion"):
        registry.resolve("models:/consilium-tiny@previous")
    assert capsys.readouterr().out == "", "nothing but answers on standard output"
