"""Verified copies on this machine of the artifacts that a registry holds, each in a folder named by its digest."""

from __future__ import annotations

import logging
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from consilium.artifact import verify
from consilium.environment import home_folder
from consilium.errors import AlteredArtifact, ArtifactError, UnsupportedArtifact
from consilium.store import store_errors, tracking_uri

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion as MlflowVersion

logger = logging.getLogger(__name__)


def models_folder() -> Path:
    """Where verified copies lie: ``$CONSILIUM_HOME/models``, or ``var/models`` below the working directory."""
    return home_folder().absolute() / "models"


def local_copy(digest: str) -> Path:
    """The copy of the artifact whose manifest has the SHA-256 `digest`; the registry is not asked.

    Raises
    ------
    ArtifactError
        Where there is none, or it was altered.
    """
    folder = models_folder() / digest
    _require_digest(folder, digest)
    return folder


def fetched_copy(client: MlflowClient, version: MlflowVersion, digest: str) -> Path:
    """The artifact of `version` on this machine; fetched unless a sound copy is there.

    Raises
    ------
    AlteredArtifact
        Where it is not the one whose manifest has the SHA-256 `digest`.
    UnsupportedArtifact, RegistryUnreachable
    """
    place = models_folder() / digest
    if place.exists():
        try:
            _require_digest(place, digest)
        except ArtifactError as error:
            logger.warning("a local copy was damaged and is fetched again: %s", error)
            shutil.rmtree(place)
        else:
            return place
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place.parent, prefix=f".{digest[:12]}.", suffix=".partial") as partial:
        fetched = _download(client, version, Path(partial))
        try:
            _require_digest(fetched, digest)
        except UnsupportedArtifact:
            raise
        except ArtifactError as error:
            raise AlteredArtifact(
                f"{version.name} version {version.version}: its artifact was altered: {error}"
            ) from error
        try:
            fetched.rename(place)
        except OSError:  # another process was faster
            _require_digest(place, digest)
    return place


def _require_digest(folder: Path, digest: str) -> None:
    found = verify(folder)
    if found != digest:
        raise ArtifactError(f"manifest.json: got SHA-256 {found}, the registry says {digest}")


def _download(client: MlflowClient, version: MlflowVersion, folder: Path) -> Path:
    with store_errors():
        from mlflow.artifacts import download_artifacts

        # A models:/ URI would be looked up in MLflow's global store, whatever store is named beside it.
        source = f"{client.get_model_version_download_uri(version.name, str(version.version))}/artifacts"
        fetched = Path(download_artifacts(artifact_uri=source, dst_path=str(folder), tracking_uri=tracking_uri()))
    # The artifact is named after the folder that it was logged from.
    inside = [entry for entry in fetched.iterdir() if entry.is_dir() and not entry.is_symlink()]
    if len(inside) != 1:
        called = f"{version.name} version {version.version}"
        raise AlteredArtifact(f"{called}: must hold one model folder, has {len(inside)}")
    return inside[0]
