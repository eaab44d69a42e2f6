"""Verified copies on this machine of the artifacts that a registry holds, each in a folder named by its digest.

A folder's modification time says when its copy was last used. `prune` removes what nobody needs; a copy that is needed
after all is fetched again.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import unquote, urlsplit
from uuid import uuid4

from consilium.artifacts.manifest import MODEL_FILES, verify
from consilium.artifacts.mlflow_store import store_errors, tracking_uri
from consilium.artifacts.registry_client import RegistryClient
from consilium.domain.diagnosis import ModelIdentity
from consilium.domain.errors import AlteredArtifact, ArtifactError, RegistryUnreachable, UnsupportedArtifact
from consilium.system.environment import home_folder

ARTIFACTS = "artifacts"
"""Where MLflow puts the artifacts of a pyfunc model, in the model's folder."""

logger = logging.getLogger(__name__)

_PARTIAL, _REMOVED = ".partial", ".removed"
_IN_USE = timedelta(hours=1)
"""Who has verified a copy may be loading it still, and who fetches one be writing."""


def models_folder() -> Path:
    """Where verified copies lie: ``$CONSILIUM_HOME/models``, or ``var/models`` below the working directory."""
    return home_folder() / "models"


def local_copy(digest: str) -> Path:
    """The copy of the artifact whose manifest has the SHA-256 `digest`; the registry is not asked.

    Raises
    ------
    ArtifactError
        Where there is none, or it was altered.
    """
    folder = models_folder() / digest
    _use(folder, digest)
    return folder


def fetched_copy(registry: RegistryClient, model: ModelIdentity, needed: Sequence[str] = MODEL_FILES) -> Path:
    """The artifact of the version `model` on this machine; fetched unless a sound copy is there.

    Parameters
    ----------
    needed : sequence of str
        Files that it must have: see `consilium.artifacts.manifest.verify`.

    Raises
    ------
    AlteredArtifact
        Where it is not the one whose manifest has the SHA-256 that `model` says.
    UnsupportedArtifact, RegistryUnreachable
    """
    digest = model.manifest_digest
    place = models_folder() / digest
    if place.exists():
        try:
            _use(place, digest, needed)
        except ArtifactError as error:
            logger.warning("a local copy was damaged and is fetched again: %s", error)
            with suppress(FileNotFoundError):  # pruned meanwhile
                shutil.rmtree(place)
        else:
            return place
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place.parent, prefix=f".{digest[:12]}.", suffix=_PARTIAL) as partial:
        fetched = _download(registry, model, Path(partial))
        try:
            _require_digest(fetched, digest, needed)
        except UnsupportedArtifact:
            raise
        except ArtifactError as error:
            raise AlteredArtifact(f"{model.name} version {model.version}: its artifact was altered: {error}") from error
        os.utime(fetched)
        try:
            fetched.rename(place)
        except OSError:  # another process was faster
            _require_digest(place, digest, needed)
    return place


@dataclass(frozen=True, slots=True)
class LocalCopy:
    """A folder among the copies.

    Attributes
    ----------
    digest : str
        SHA-256 of its manifest; empty where it is what an interrupted download or removal left.
    kept : str
        Why it is not to be removed; empty where it is.
    """

    folder: Path
    digest: str
    size: int
    used: datetime
    kept: str

    def to_json(self) -> dict[str, str | int]:
        return {
            "folder": self.folder.name,
            "digest": self.digest,
            "bytes": self.size,
            "used": self.used.isoformat(timespec="seconds"),
            "kept": self.kept,
        }


def list_copies(needed: Mapping[str, str], keep: int = 0) -> list[LocalCopy]:
    """All copies, last used first, and which of them `prune` would remove.

    Parameters
    ----------
    needed : mapping of str to str
        Why a copy must stay, by digest.
    keep : int
        How many of the others stay, those that were used last.
    """
    found = [copy for folder in models_folder().glob("*") if (copy := _described(folder, needed)) is not None]
    newest_first = sorted(found, key=lambda copy: (copy.used, copy.digest), reverse=True)
    spare = [copy.folder for copy in newest_first if copy.digest and copy.digest not in needed][:keep]
    return [replace(copy, kept="among the newest") if copy.folder in spare else copy for copy in newest_first]


def prune(copies: Sequence[LocalCopy]) -> list[LocalCopy]:
    """Remove those of `copies` that nothing keeps, and that were not used since they were listed; give these.

    A service that is about to load one says so before it verifies it, and fetches it again where it has gone.
    """
    return [copy for copy in copies if not copy.kept and _removed(copy)]


def _removed(copy: LocalCopy) -> bool:
    gone = copy.folder.with_name(f".{copy.digest[:12]}.{uuid4().hex}{_REMOVED}")
    try:
        if _used(copy.folder) != copy.used:
            return False
        # In one step: nobody must find half a copy.
        copy.folder.rename(gone)
    except FileNotFoundError:  # another process was faster
        return False
    shutil.rmtree(gone)
    return True


def _described(folder: Path, needed: Mapping[str, str]) -> LocalCopy | None:
    copied = re.fullmatch(r"[0-9a-f]{64}", folder.name) is not None
    if not copied and not (folder.name.startswith(".") and folder.suffix in (_PARTIAL, _REMOVED)):
        return None
    try:
        used = _used(folder)
        size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    except FileNotFoundError:  # renamed or removed meanwhile
        return None
    digest = folder.name if copied else ""
    in_use = "" if datetime.now(UTC) - used > _IN_USE else "used within the hour"
    return LocalCopy(folder, digest, size, used, needed.get(digest, "") or in_use)


def _used(folder: Path) -> datetime:
    """When a copy was last used; of what is none, when anything in it was last written."""
    inside = folder.rglob("*") if folder.name.startswith(".") else ()
    return datetime.fromtimestamp(max(path.stat().st_mtime for path in (folder, *inside)), UTC)


def _use(folder: Path, digest: str, needed: Sequence[str] = MODEL_FILES) -> None:
    """Say that the copy is in use, then verify it."""
    with suppress(OSError):  # another user's; or gone, which the next line tells
        os.utime(folder)
    _require_digest(folder, digest, needed)


def _require_digest(folder: Path, digest: str, needed: Sequence[str]) -> None:
    found = verify(folder, needed)
    if found != digest:
        raise ArtifactError(f"manifest.json: got SHA-256 {found}, the registry says {digest}")


def _download(registry: RegistryClient, model: ModelIdentity, folder: Path) -> Path:
    # A models:/ URI would be looked up in MLflow's global store, whatever store is named beside it.
    source = f"{registry.location(model.name, model.version)}/{ARTIFACTS}"
    local = _local(source)
    fetched = folder / ARTIFACTS
    if local is None:
        with store_errors():
            from mlflow.artifacts import download_artifacts

            fetched = Path(download_artifacts(artifact_uri=source, dst_path=str(folder), tracking_uri=tracking_uri()))
    else:
        try:
            shutil.copytree(local, fetched, symlinks=True)
        except OSError as error:  # shutil.Error among them, whose text is a list
            raise RegistryUnreachable(f"model store: {local} cannot be read ({error.strerror or 'in part'})") from error
    # The artifact is named after the folder that it was logged from.
    inside = [entry for entry in fetched.iterdir() if entry.is_dir() and not entry.is_symlink()]
    if len(inside) != 1:
        called = f"{model.name} version {model.version}"
        raise AlteredArtifact(f"{called}: must hold one model folder, has {len(inside)}")
    return inside[0]


def _local(location: str) -> Path | None:
    """The folder of this machine that a path or a file: URI names; None for what lies elsewhere."""
    if location.startswith("file:"):
        return Path(unquote(urlsplit(location).path))
    return Path(location) if location.startswith("/") else None
