"""The model registry, wherever it is: an embedded store's own tables, else MLflow's client, which takes seconds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from consilium.artifacts.mlflow_store import (
    embedded_database,
    open_store,
    refuse_moved,
    registry_uri,
    require_there,
    store_errors,
)
from consilium.artifacts.registry_tables import PREFIX, RegistryTables, StoredVersion

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion as MlflowVersion


class RegistryClient(Protocol):
    """What is asked of a registry; see `RegistryTables`. Each raises `RegistryUnreachable` where it cannot answer."""

    def models(self) -> list[str]: ...

    def aliases(self, name: str) -> dict[str, str] | None: ...

    def versions(self, name: str) -> list[StoredVersion]: ...

    def version(self, name: str, version: str) -> StoredVersion | None: ...

    def location(self, name: str, version: str) -> str: ...

    def set_tag(self, name: str, version: str, key: str, value: str) -> None: ...

    def set_alias(self, name: str, alias: str, version: str) -> None: ...

    def delete_alias(self, name: str, alias: str) -> None: ...


def open_registry() -> RegistryClient:
    """The registry of the store (`consilium.artifacts.mlflow_store`).

    Raises
    ------
    RegistryUnreachable
        Where there is no store, or it cannot be reached.
    RegistryError
        Where it was moved.
    """
    database = embedded_database()
    if database is None or embedded_database(registry_uri()) != database:
        return MlflowRegistry(open_store())
    require_there(database)
    tables = RegistryTables(database)
    if not tables.known():
        return MlflowRegistry(open_store())
    refuse_moved(database, tables.experiments())
    return tables


@dataclass(frozen=True, slots=True)
class MlflowRegistry:
    """The registry behind MLflow's client: a server's, or that of a database of another kind or revision."""

    client: MlflowClient

    def models(self) -> list[str]:
        with store_errors():
            found = _all_pages(self.client.search_registered_models, filter_string=f"name LIKE '{PREFIX}%'")
        return sorted(model.name for model in found)

    def aliases(self, name: str) -> dict[str, str] | None:
        with store_errors():
            from mlflow.exceptions import MlflowException

            try:
                model = self.client.get_registered_model(name)
            except MlflowException as error:
                if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                    raise
                return None
        return {alias: str(version) for alias, version in model.aliases.items()}

    def versions(self, name: str) -> list[StoredVersion]:
        with store_errors():
            found = _all_pages(self.client.search_model_versions, filter_string=f"name = '{name}'")
        return sorted((_stored(version) for version in found), key=lambda version: -int(version.version))

    def version(self, name: str, version: str) -> StoredVersion | None:
        with store_errors():
            from mlflow.exceptions import MlflowException

            try:
                return _stored(self.client.get_model_version(name, version))
            except MlflowException as error:
                if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                    raise
                return None

    def location(self, name: str, version: str) -> str:
        with store_errors():
            return str(self.client.get_model_version_download_uri(name, version))

    def set_tag(self, name: str, version: str, key: str, value: str) -> None:
        with store_errors():
            self.client.set_model_version_tag(name, version, key, value)

    def set_alias(self, name: str, alias: str, version: str) -> None:
        with store_errors():
            self.client.set_registered_model_alias(name, alias, version)

    def delete_alias(self, name: str, alias: str) -> None:
        with store_errors():
            self.client.delete_registered_model_alias(name, alias)


def _stored(version: MlflowVersion) -> StoredVersion:
    return StoredVersion(
        version.name, str(version.version), version.creation_timestamp, version.run_id or "", dict(version.tags)
    )


def _all_pages(search: Any, **arguments: Any) -> list[Any]:
    found, token = [], None
    while True:
        page = search(**arguments, page_token=token)
        found += page
        token = page.token
        if not token:
            return found
