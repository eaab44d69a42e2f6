"""The tables say what MLflow's own client says, and MLflow's client reads what is written into them."""

from __future__ import annotations

from pathlib import Path

import pytest
from alembic.script import ScriptDirectory
from mlflow import MlflowClient
from mlflow.store.db.utils import _get_alembic_config

from consilium.artifacts import model_registry as registry
from consilium.artifacts.mlflow_store import open_store
from consilium.artifacts.registry_client import MlflowRegistry, open_registry
from consilium.artifacts.registry_tables import REVISION, RegistryTables
from consilium.domain.errors import RegistryUnreachable

NAME = "consilium-tables"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with two models of ours, one of somebody else's, and a version that was deleted."""
    database = tmp_path_factory.mktemp("mlruns") / "mlflow.db"
    client = MlflowClient(tracking_uri=f"sqlite:///{database}", registry_uri=f"sqlite:///{database}")
    for name in (NAME, "consilium-another", "somebody-else", "consiliumX"):
        client.create_registered_model(name)
    for number in range(1, 4):
        client.create_model_version(
            NAME, f"/elsewhere/{number}", run_id=None, tags={"recipe": f"r{number}", "é": "'\""}
        )
    client.set_registered_model_alias(NAME, "champion", "2")
    client.set_registered_model_alias(NAME, "challenger", "3")
    client.delete_model_version(NAME, "1")
    return database


@pytest.fixture(autouse=True)
def embedded(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{store}")
    monkeypatch.delenv("MLFLOW_REGISTRY_URI", raising=False)


def test_the_revision_is_the_one_that_the_pinned_mlflow_makes(store: Path) -> None:
    script = ScriptDirectory.from_config(_get_alembic_config(f"sqlite:///{store}"))
    assert script.get_current_head() == REVISION
    assert RegistryTables(store).known()


def test_both_ways_read_the_same(store: Path) -> None:
    tables, asked = open_registry(), MlflowRegistry(open_store())
    assert isinstance(tables, RegistryTables)
    assert tables.models() == asked.models() == ["consilium-another", NAME]
    assert tables.aliases(NAME) == asked.aliases(NAME) == {"champion": "2", "challenger": "3"}
    assert tables.aliases("consilium-another") == asked.aliases("consilium-another") == {}
    assert tables.aliases("consilium-none") is None
    assert asked.aliases("consilium-none") is None
    assert tables.versions(NAME) == asked.versions(NAME)
    assert [version.version for version in tables.versions(NAME)] == ["3", "2"]
    assert tables.version(NAME, "2") == asked.version(NAME, "2")
    assert tables.location(NAME, "2") == asked.location(NAME, "2") == "/elsewhere/2"
    for number in ("1", "77", "latest"):
        assert tables.version(NAME, number) is None
        assert asked.version(NAME, number) is None


def test_mlflow_reads_what_was_written(store: Path) -> None:
    tables, client = open_registry(), open_store()
    tables.set_alias(NAME, "previous", "2")
    tables.set_alias(NAME, "previous", "3")
    tables.set_tag(NAME, "3", "promoted 2026-11-29T10:00:00.000001Z", "first: ä'")
    tables.set_tag(NAME, "3", "promoted 2026-11-29T10:00:00.000001Z", "second")
    assert client.get_registered_model(NAME).aliases["previous"] == 3
    assert client.get_model_version(NAME, "3").tags["promoted 2026-11-29T10:00:00.000001Z"] == "second"
    assert [event.reason for event in registry.describe(NAME, "@previous").events] == ["second"]
    tables.delete_alias(NAME, "previous")
    assert "previous" not in client.get_registered_model(NAME).aliases
    with pytest.raises(RegistryUnreachable, match="FOREIGN KEY"):
        tables.set_tag(NAME, "77", "key", "of no version")


def test_mlflow_itself_is_asked_about_tables_of_another_revision(tmp_path: Path) -> None:
    database = tmp_path / "mlflow.db"
    database.write_bytes(b"")
    assert not RegistryTables(database).known()
    assert not RegistryTables(tmp_path / "none.db").known()
