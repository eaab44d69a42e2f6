"""Where MLflow keeps runs and models: `MLFLOW_TRACKING_URI`, or an embedded SQLite store under ``mlruns/``.

MLflow is imported only when a store is opened: it takes seconds.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from consilium.errors import RegistryError, RegistryUnreachable

if TYPE_CHECKING:
    from mlflow import MlflowClient

_SQLITE = "sqlite:///"
_ARTIFACTS = "artifacts"
_BRIEFLY = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "10", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"}


def tracking_uri() -> str:
    """URI of the store: ``MLFLOW_TRACKING_URI``, or the embedded one below the working directory."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"{_SQLITE}{Path.cwd() / 'mlruns' / 'mlflow.db'}"


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
    if database is not None and create:
        database.parent.mkdir(parents=True, exist_ok=True)
    elif database is not None:
        require_there(database)
    # A bar for every folder that is fetched or stored, and addresses on standard output, would stand across ours.
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    with store_errors():
        from mlflow import MlflowClient

        client = MlflowClient(tracking_uri=tracking_uri(), registry_uri=registry_uri())
        if database is not None:
            refuse_moved(database, [(one.name, one.artifact_location) for one in client.search_experiments()])
    return client


def experiment_id(name: str) -> str:
    """Id of the experiment `name`, made where it is missing; its artifacts lie beside an embedded store."""
    client = open_store(create=True)
    with store_errors():
        experiment = client.get_experiment_by_name(name)
        if experiment is not None:
            return str(experiment.experiment_id)
        database = embedded_database()
        place = None if database is None else str(database.parent / _ARTIFACTS / name)
        return str(client.create_experiment(name, artifact_location=place))


@contextmanager
def store_errors() -> Iterator[None]:
    """What MLflow, its database or its network raise inside ends in a `RegistryUnreachable`."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (MlflowException, SQLAlchemyError, OSError) as error:
        first = str(error).strip().partition("\n")[0]
        raise RegistryUnreachable(f"model store: {first}") from error


def embedded_database(uri: str | None = None) -> Path | None:
    """File of the SQLite store at `uri`, the tracking store unless given; None for a server or another database."""
    place = tracking_uri() if uri is None else uri
    return Path(place.removeprefix(_SQLITE)).absolute() if place.startswith(_SQLITE) else None


def require_there(database: Path) -> None:
    """Raise `RegistryUnreachable` where the embedded store was not made yet."""
    if not database.exists():
        place = f"{_SQLITE}{database}"
        raise RegistryUnreachable(f"model store: got {place!r}, there is none yet; `consilium train` makes it")


def refuse_moved(database: Path, experiments: Iterable[tuple[str, str]]) -> None:
    """Raise `RegistryError` where the store was moved.

    MLflow writes absolute locations, so a copied or renamed store would read and write in its old place.

    Parameters
    ----------
    experiments : iterable of (str, str)
        Name and artifact location of each.
    """
    for name, location in experiments:
        place = Path(location.removeprefix("file://"))
        ours = place.name == name and place.parent.name == _ARTIFACTS
        if ours and place.parents[1].resolve() != database.parent.resolve():
            raise RegistryError(
                f"model store: got {str(database.parent)!r}, was made as {str(place.parents[1])!r}: move it back, or "
                "rewrite the locations in its database as mlruns/README.md says"
            )
