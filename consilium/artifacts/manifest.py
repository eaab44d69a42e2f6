"""The manifest of an artifact: which files it must have, and whether the folder is what was written.

Whoever only names, lists or copies models needs this and no model: nothing here imports torch.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

import yaml
from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion, Version
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError

from consilium import __version__
from consilium.configuration.recipe import Recipe
from consilium.domain.errors import ArtifactError, InputError, UnsupportedArtifact
from consilium.domain.findings import FindingSet
from consilium.modalities.section import ENCODERS_FILE

FORMAT = 8
"""Layout of the folder. Raised whenever an older version of this project could misread a new artifact."""

READS = SpecifierSet(">=0.1.0,<0.2", prereleases=True)
"""Versions of this project whose artifacts this one answers for: the model's code must be the same."""

MANIFEST = "manifest.json"
WEIGHTS, RECIPE, FINDINGS = "model.safetensors", "recipe.yaml", "findings.json"
PREPROCESSING, CALIBRATION, DETAILS = "preprocessing", "calibration.json", "details.json"
DETECTOR, NEIGHBOURS, AUDIT, REFERENCE = "out_of_distribution.safetensors", "neighbours", "audit.json", "reference"
MONITORING = "monitoring"
CARD_FILES = ("card.md", "card.html")
STUDIES = "studies.json"
"""Of the references."""
MODEL_FILES = (
    WEIGHTS,
    RECIPE,
    FINDINGS,
    f"{PREPROCESSING}/preprocessing.json",
    CALIBRATION,
    AUDIT,
    f"{REFERENCE}/{STUDIES}",
    DETAILS,
)
"""Of a model."""
ENCODER_FILES = (ENCODERS_FILE, RECIPE, f"{PREPROCESSING}/preprocessing.json", AUDIT, DETAILS, CARD_FILES[0])
"""Of pretrained encoders."""
_LARGEST = 1 << 20


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    size: int = Field(ge=0)


class _Manifest(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    format: int = Field(ge=1)
    consilium: str
    files: dict[str, _File]


def verify(folder: Path, needed: Sequence[str] = MODEL_FILES) -> str:
    """Check every file of `folder` against its manifest and give the manifest's SHA-256.

    Parameters
    ----------
    needed : sequence of str
        What must be among the files: `MODEL_FILES`, `ENCODER_FILES`, or those of a search index.

    Raises
    ------
    ArtifactError
        For a file that is missing, altered, truncated, too many or no plain file, and for a manifest that is damaged,
        leaves the folder or is of another format.
    """
    if not folder.is_dir():
        raise ArtifactError(f"artifact: got {str(folder)!r}, must be a model folder")
    # Before the folder is walked: it may be anyone's home.
    if not (folder / MANIFEST).is_file():
        raise ArtifactError(f"{MANIFEST}: is missing, so this is no model folder or an incomplete one")
    found = set(_files(folder))
    data = _read_manifest(folder / MANIFEST)
    listed = _parse_manifest(data).files
    if (ENCODERS_FILE in listed) != (ENCODERS_FILE in needed):
        kinds = ("a model", "pretrained encoders")
        got, wanted = kinds if ENCODERS_FILE in needed else reversed(kinds)
        raise ArtifactError(f"{MANIFEST}: got {got}, must be {wanted}")
    for name in sorted({*listed, *needed}):
        if name not in listed:
            raise ArtifactError(f"{MANIFEST}: must list {name}")
        if name not in found:
            raise ArtifactError(f"{name}: is missing")
    extra = sorted(found - set(listed) - {MANIFEST})
    if extra:
        raise ArtifactError(f"{extra[0]}: is not in the manifest")
    for name, file in listed.items():
        size = (folder / name).stat().st_size
        if size != file.size:
            raise ArtifactError(f"{name}: got {size} bytes, must be {file.size}")
        if _sha256(folder / name) != file.sha256:
            raise ArtifactError(f"{name}: was altered, its SHA-256 must be that of the manifest")
    return hashlib.sha256(data).hexdigest()


def describe(folder: Path) -> bytes:
    """The manifest of the files that lie in `folder`."""
    files = {
        name: {"sha256": _sha256(folder / name), "size": (folder / name).stat().st_size}
        for name in sorted(_files(folder))
    }
    return as_json({"format": FORMAT, "consilium": __version__, "files": files})


def _read_manifest(path: Path) -> bytes:
    with path.open("rb") as file:
        data = file.read(_LARGEST + 1)
    if len(data) > _LARGEST:
        raise ArtifactError(f"{MANIFEST}: must have at most {_LARGEST} bytes")
    return data


def _parse_manifest(data: bytes) -> _Manifest:
    try:
        raw = json.loads(data)
        number = raw["format"]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise ArtifactError(f"{MANIFEST}: must be JSON with a format") from None
    # A newer manifest may have other keys, so its format comes before everything else.
    if number != FORMAT:
        rule = f"this version of consilium reads format {FORMAT} alone"
        raise UnsupportedArtifact(f"{MANIFEST}: got format {number!r}, {rule}")
    try:
        manifest = _Manifest.model_validate(raw)
    except ValidationError as error:
        where = ".".join(str(part) for part in error.errors()[0]["loc"])
        raise ArtifactError(f"{MANIFEST}: {where}: {error.errors()[0]['msg'].lower()}") from None
    try:
        known = READS.contains(Version(manifest.consilium))
    except InvalidVersion:
        known = False
    if not known:
        rule = f"{__version__} reads models of {READS}"
        raise UnsupportedArtifact(f"{MANIFEST}: got consilium {manifest.consilium!r}, {rule}")
    for name in manifest.files:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or "\\" in name or str(path) != name or name in ("", ".", MANIFEST):
            raise ArtifactError(f"{MANIFEST}: got {name!r}, must be the plain path of a file inside the folder")
    return manifest


def _files(folder: Path) -> Iterator[str]:
    """Every file below `folder`, by its path from there; a link or device among them is refused."""
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        if entry.is_symlink() or not (entry.is_file() or entry.is_dir()):
            raise ArtifactError(f"{entry.name}: must be a plain file, no link and no device")
        if entry.is_dir():
            yield from (f"{entry.name}/{name}" for name in _files(Path(entry.path)))
        else:
            yield entry.name


def read_recipe(folder: Path) -> Recipe:
    """The recipe of the artifact in `folder`, which `verify` has seen; `ArtifactError` where it is none."""
    with reading(RECIPE):
        return Recipe.from_mapping(yaml.safe_load((folder / RECIPE).read_text(encoding="utf-8")))


def read_findings(folder: Path) -> FindingSet:
    """The findings of the artifact in `folder`, likewise."""
    with reading(FINDINGS):
        return FindingSet.from_json(read_json(folder / FINDINGS))


@contextmanager
def reading(name: str) -> Iterator[None]:
    """Whatever goes wrong inside is about the file `name`: its digest is right, but not what it says."""
    try:
        yield
    except (InputError, ArtifactError) as error:
        raise ArtifactError(f"{name}: {error}") from None
    except (
        OSError,
        ValueError,
        TypeError,
        KeyError,
        AttributeError,
        RuntimeError,
        yaml.YAMLError,
        SafetensorError,
    ) as error:
        first = str(error).partition("\n")[0]
        raise ArtifactError(f"{name}: cannot be read by this version ({type(error).__name__}: {first})") from error


def as_json(data: object) -> bytes:
    return (json.dumps(data, indent=1, sort_keys=True, allow_nan=False) + "\n").encode()


def read_json(path: Path) -> Any:
    return json.loads(path.read_bytes())


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
