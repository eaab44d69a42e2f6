"""Where MLflow keeps runs and models: `MLFLOW_TRACKING_URI`, or an embedded SQLite store under ``mlruns/``.

MLflow is imported only when a store is opened: it takes seconds.
"""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from consilium.artifacts import embedded_store
from consilium.domain.errors import RegistryError, RegistryUnreachable

if TYPE_CHECKING:
    from mlflow import MlflowClient

_BRIEFLY = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "10", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"}


def tracking_uri() -> str:
    """URI of the store: ``MLFLOW_TRACKING_URI``, or the embedded one below the working directory."""
    return os.environ.get("MLFLOW_TRACKING_URI") or embedded_store.sqlite_url(Path.cwd() / "mlruns" / "mlflow.db")


def registry_uri() -> str:
    """URI of the model registry: ``MLFLOW_REGISTRY_URI``, or the store itself."""
    return os.environ.get("MLFLOW_REGISTRY_URI") or tracking_uri()


def ask_briefly() -> None:
    """Give a server that is away up within seconds, unless the environment says otherwise.

    MLflow goes on asking for minutes, which is right for a training and nothing else.
    """
    for name, value in _BRIEFLY.items():
        os.environ.setdefault(name, value)


def open_store(*, create: bool = False) -> MlflowClient:
    """A client of the store.

    Parameters
    ----------
    create : bool
        Make an embedded store where there is none. Reading should not leave an empty one behind.

    Raises
    ------
    RegistryUnreachable
        Where there is no store, or it cannot be reached.
    RegistryError
        Where it was moved.
    """
    database = embedded_database()
    missing = database is not None and not embedded_store.is_there(database)
    if database is not None and not create:
        require_there(database)
    # A bar for every folder that is fetched or stored, and addresses on standard output, would stand across ours.
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    with store_errors():
        if database is not None and missing:
            embedded_store.make(database)
        from mlflow import MlflowClient

        client = MlflowClient(tracking_uri=tracking_uri(), registry_uri=registry_uri())
        if database is not None:
            refuse_moved(database, [(one.name, one.artifact_location) for one in client.search_experiments()])
            embedded_store.remove_stray_folders(database)
    return client


def experiment_id(name: str) -> str:
    """Id of the experiment `name`, made where it is missing; its artifacts lie beside an embedded store."""
    client = open_store(create=True)
    with store_errors():
        from mlflow.exceptions import MlflowException

        experiment = client.get_experiment_by_name(name)
        if experiment is None:
            database = embedded_database()
            place = None if database is None else embedded_store.artifact_location(database, name)
            try:
                return str(client.create_experiment(name, artifact_location=place))
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
            experiment = client.get_experiment_by_name(name)  # another process was faster
            assert experiment is not None
        return str(experiment.experiment_id)


@contextmanager
def store_errors() -> Iterator[None]:
    """What MLflow, its database or its network raise inside ends in a `RegistryUnreachable`."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (MlflowException, SQLAlchemyError, OSError) as error:
        raise RegistryUnreachable(f"model store: {_cause(str(error))}") from error


def _cause(text: str) -> str:
    """The first line of an error's text; of a server that is away, which one and why in place of a library's tale."""
    server = re.search(r"API request to (https?://[^/\s]+)\S* failed with exception", text)
    if server is None:
        return text.strip().partition("\n")[0]
    reason = re.search(r"\[Errno -?\d+\] ([A-Za-z ]+)|(timed out)", text)
    return f"{server[1]} gives no answer ({(reason[1] or reason[2]) if reason else 'the connection broke'})"


def embedded_database(uri: str | None = None) -> Path | None:
    """File of the SQLite store at `uri`, the tracking store unless given; None for a server or another database."""
    return embedded_store.sqlite_file(tracking_uri() if uri is None else uri)


def require_there(database: Path) -> None:
    """Raise `RegistryUnreachable` where the embedded store was not made yet."""
    if not embedded_store.is_there(database):
        place = embedded_store.sqlite_url(database)
        raise RegistryUnreachable(f"model store: got {place!r}, there is none yet; `consilium train` makes it")


def relocate() -> tuple[Path, int]:
    """Let the embedded store, which was moved to where it is, find its artifacts: `embedded_store.relocate`.

    Raises
    ------
    RegistryError
        The store is no embedded one, or is not there.
    """
    database = embedded_database()
    if database is None:
        raise RegistryError(f"model store: got {tracking_uri()!r}, only an embedded store is moved in this way")
    require_there(database)
    try:
        return embedded_store.relocate(database)
    except sqlite3.Error as error:
        raise RegistryUnreachable(f"model store: {error}") from error


def refuse_moved(database: Path, experiments: Iterable[tuple[str, str]]) -> None:
    """Raise `RegistryError` where the store was moved.

    MLflow writes absolute locations, so a copied or renamed store would read and write in its old place.

    Parameters
    ----------
    experiments : iterable of (str, str)
        Name and artifact location of each.
    """
    old = embedded_store.made_at(experiments)
    if old is not None and old.resolve() != database.parent.resolve():
        raise RegistryError(
            f"model store: got {str(database.parent)!r}, was made as {str(old)!r}: move it back, or let it find its "
            "artifacts where it is with `consilium models relocate`"
        )
