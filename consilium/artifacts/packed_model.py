"""A packed model: an artifact that keeps the name and version that the registry gave it, away from the registry.

A folder with two things: `identity.json`, which says name, version and manifest digest, and `artifact/`. The digest is
what the registry vouched for when the model was packed, and every reading verifies the artifact against it.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from consilium.artifacts.manifest import verify
from consilium.domain.diagnosis import ModelIdentity
from consilium.domain.errors import ArtifactError

IDENTITY, ARTIFACT = "identity.json", "artifact"


class _Identity(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    name: str = Field(min_length=1)
    version: str = Field(min_length=1)
    manifest_digest: str = Field(pattern=r"^[0-9a-f]{64}$")


def pack(artifact: Path, identity: ModelIdentity, folder: Path) -> None:
    """Write the artifact in the folder `artifact`, called `identity`, into `folder`, which must not exist.

    Raises
    ------
    ArtifactError
        Where the artifact is not the one that `identity` names.
    """
    folder.mkdir(parents=True)
    shutil.copytree(artifact, folder / ARTIFACT)
    (folder / IDENTITY).write_text(_Identity(**identity.to_json()).model_dump_json(indent=1) + "\n", encoding="utf-8")
    read_packed(folder)


def is_packed(folder: Path) -> bool:
    """Whether `folder` is a packed model, rather than an artifact itself."""
    return (folder / IDENTITY).is_file()


def read_packed(folder: Path) -> tuple[Path, ModelIdentity]:
    """The artifact's folder, verified, and what it is called.

    Raises
    ------
    ArtifactError
        Where the artifact is incomplete, altered, or not the one that was packed.
    """
    try:
        identity = _Identity.model_validate_json((folder / IDENTITY).read_bytes())
    except ValidationError as error:
        where = ".".join(str(part) for part in error.errors()[0]["loc"]) or "the file"
        raise ArtifactError(f"{IDENTITY}: {where}: {error.errors()[0]['msg'].lower()}") from None
    artifact = folder / ARTIFACT
    found = verify(artifact)
    if found != identity.manifest_digest:
        raise ArtifactError(f"{IDENTITY}: manifest_digest: got {identity.manifest_digest}, the artifact's is {found}")
    return artifact, ModelIdentity(identity.name, identity.version, identity.manifest_digest)
