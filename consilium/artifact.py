"""Artifact: everything a diagnosis needs, as a folder that can be checked.

    model.safetensors      weights
    recipe.yaml            the whole configuration
    findings.json          what is diagnosed
    preprocessing/         scaling, text configuration and tokenizer files
    calibration.json       what turns logits into probabilities
    novelty.safetensors    what is unlike the training data; where the recipe refers by novelty
    neighbours/            the training cases that a study is compared with, where there are any
    reference/             made-up studies and the answers to them, which whoever serves the model asks again
    audit.json             what the audit found of the cohort
    card.md, card.html     the model's card, where one was written
    details.json           package versions and facts of the training
    manifest.json          format, SHA-256 and size of every file above

Nothing in it is pickled. The SHA-256 of the manifest's own bytes names the artifact; the registry keeps it, because a
manifest beside the files shows corruption but no tampering.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path, PurePosixPath
from platform import python_version
from typing import Any

import torch
import yaml
from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion, Version
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_model, save_model

from consilium import __version__
from consilium.calibration import Calibration
from consilium.collate import Preprocessing
from consilium.diagnosis import AuditVerdict
from consilium.durable import sync
from consilium.errors import ArtifactError, InputError, UnsupportedArtifact
from consilium.explain.neighbours import Neighbours
from consilium.findings import FindingSet
from consilium.model import FUSED, DiagnosisModel
from consilium.novelty import NoveltyDetector
from consilium.recipe import Recipe
from consilium.references import STUDIES, References

FORMAT = 3
"""Layout of the folder. Raised whenever an older version of this project could misread a new artifact."""

READS = SpecifierSet(">=0.1.0,<0.2", prereleases=True)
"""Versions of this project whose artifacts this one answers for: the model's code must be the same."""

MANIFEST = "manifest.json"
_WEIGHTS, _RECIPE, _FINDINGS = "model.safetensors", "recipe.yaml", "findings.json"
_PREPROCESSING, _CALIBRATION, _DETAILS = "preprocessing", "calibration.json", "details.json"
_NOVELTY, _NEIGHBOURS, _AUDIT, _REFERENCE = "novelty.safetensors", "neighbours", "audit.json", "reference"
CARD_FILES = ("card.md", "card.html")
_NEEDED = (
    _WEIGHTS,
    _RECIPE,
    _FINDINGS,
    f"{_PREPROCESSING}/preprocessing.json",
    _CALIBRATION,
    _AUDIT,
    f"{_REFERENCE}/{STUDIES}",
    _DETAILS,
)
_RECORDED = ("torch", "monai", "transformers", "tokenizers", "safetensors", "numpy", "scipy")
_LARGEST_MANIFEST = 1 << 20


@dataclass(frozen=True, slots=True, eq=False)
class Artifact:
    """A trained model and all that it needs.

    Attributes
    ----------
    details : dict
        Facts of the training, for `json.dumps`: metrics, cohort digest, sizes of the splits. Nothing of any patient.
        A loaded artifact also has ``consilium``, ``python`` and ``packages``: the versions that wrote it.
    novelty : NoveltyDetector or None
        None where the recipe does not refer by novelty, and only there.
    audit : AuditVerdict
        Of the cohort that the model learned from.
    neighbours : Neighbours or None
        Training cases to show beside a study.
    card : dict of str to str
        The model's card: text by file name, each of `CARD_FILES`.
    references : References
        Made-up studies and what the model answers to them.

    Raises
    ------
    ArtifactError
        Where the parts do not belong together.
    """

    recipe: Recipe
    findings: FindingSet
    preprocessing: Preprocessing
    model: DiagnosisModel
    calibration: Calibration
    details: dict[str, Any]
    novelty: NoveltyDetector | None = None
    audit: AuditVerdict = field(default_factory=AuditVerdict)
    neighbours: Neighbours | None = None
    card: dict[str, str] = field(default_factory=dict)
    references: References = field(kw_only=True)

    def __post_init__(self) -> None:
        if (self.novelty is None) != (self.recipe.refer.novelty is None):
            rule = "be there where, and only where, the recipe refers by it"
            raise ArtifactError(f"{_NOVELTY}: must {rule} (refer.novelty: {self.recipe.refer.novelty})")
        parts = {modality.value for modality in self.recipe.modalities} | {FUSED}
        if self.novelty is not None and set(self.novelty.gaussians) != parts:
            raise ArtifactError(f"{_NOVELTY}: must know {', '.join(sorted(parts))}")
        unknown = sorted(set(self.card) - set(CARD_FILES))
        if unknown:
            raise ArtifactError(f"{unknown[0]}: the card's files are {' and '.join(CARD_FILES)}")


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    size: int = Field(ge=0)


class _Manifest(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    format: int = Field(ge=1)
    consilium: str
    files: dict[str, _File]


def save_artifact(folder: Path, artifact: Artifact) -> str:
    """Write `artifact` into `folder`, which must not exist, and give its manifest's SHA-256.

    The folder appears whole and on disk, or not at all: it is written beside its place and renamed.

    Raises
    ------
    ArtifactError
        Where `folder` exists.
    """
    if folder.exists() or folder.is_symlink():
        raise ArtifactError(f"artifact: got {folder.name!r}, must be a folder that does not exist yet")
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}.", suffix=".partial"))
    try:
        _write_parts(partial, artifact)
        manifest = _describe(partial)
        (partial / MANIFEST).write_bytes(manifest)
        partial.chmod(0o755)  # mkdtemp lets nobody else read
        _sync(partial)
        partial.rename(folder)
        sync(folder.parent)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return hashlib.sha256(manifest).hexdigest()


def load_artifact(folder: Path, device: torch.device | str = "cpu") -> Artifact:
    """Read the artifact in `folder`, verified first; the model is in evaluation mode on `device`.

    Raises
    ------
    ArtifactError
        Names the file and the rule: incomplete, altered, or of a format or version that this one does not know.
    """
    verify(folder)
    recipe, findings = read_recipe(folder), read_findings(folder)
    with _reading(_CALIBRATION):
        calibration = Calibration.from_json(_read_json(folder / _CALIBRATION))
    if calibration.findings != findings:
        raise ArtifactError(f"{_CALIBRATION}: its findings must be those of {_FINDINGS}")
    with _reading(_DETAILS):
        details = dict(_read_json(folder / _DETAILS))
    with _reading(_AUDIT):
        audit = AuditVerdict.from_json(_read_json(folder / _AUDIT))
    with _reading(_PREPROCESSING):
        preprocessing = Preprocessing.load(folder / _PREPROCESSING, recipe)
        model = DiagnosisModel(recipe, findings, preprocessing, pretrained=False)
    with _reading(_WEIGHTS):
        load_model(model, folder / _WEIGHTS, strict=True)
    if not all(torch.isfinite(tensor).all() for tensor in model.state_dict().values()):
        raise ArtifactError(f"{_WEIGHTS}: every weight must be finite")
    return Artifact(
        recipe=recipe,
        findings=findings,
        preprocessing=preprocessing,
        model=model.to(device).eval(),
        calibration=calibration,
        details=details,
        novelty=_read_novelty(folder),
        audit=audit,
        neighbours=_read_neighbours(folder),
        card={name: (folder / name).read_text(encoding="utf-8") for name in CARD_FILES if (folder / name).exists()},
        references=_read_references(folder, findings),
    )


def read_recipe(folder: Path) -> Recipe:
    """The recipe of the artifact in `folder`, which `verify` has seen; `ArtifactError` where it is none."""
    with _reading(_RECIPE):
        return Recipe.from_mapping(yaml.safe_load((folder / _RECIPE).read_text(encoding="utf-8")))


def read_findings(folder: Path) -> FindingSet:
    """The findings of the artifact in `folder`, likewise."""
    with _reading(_FINDINGS):
        return FindingSet.from_json(_read_json(folder / _FINDINGS))


def _read_novelty(folder: Path) -> NoveltyDetector | None:
    if not (folder / _NOVELTY).exists():
        return None
    with _reading(_NOVELTY):
        return NoveltyDetector.load(folder / _NOVELTY)


def _read_neighbours(folder: Path) -> Neighbours | None:
    if not (folder / _NEIGHBOURS).exists():
        return None
    with _reading(_NEIGHBOURS):
        return Neighbours.load(folder / _NEIGHBOURS)


def _read_references(folder: Path, findings: FindingSet) -> References:
    with _reading(_REFERENCE):
        return References.load(folder / _REFERENCE, findings)


def verify(folder: Path) -> str:
    """Check every file of `folder` against its manifest and give the manifest's SHA-256.

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
    for name in sorted({*listed, *_NEEDED}):
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


def _write_parts(folder: Path, artifact: Artifact) -> None:
    save_model(artifact.model, str(folder / _WEIGHTS))
    (folder / _RECIPE).write_text(artifact.recipe.to_yaml(), encoding="utf-8")
    _write_json(folder / _FINDINGS, artifact.findings.to_json())
    artifact.preprocessing.save(folder / _PREPROCESSING)
    _write_json(folder / _CALIBRATION, artifact.calibration.to_json())
    _write_json(folder / _AUDIT, artifact.audit.to_json())
    if artifact.novelty is not None:
        artifact.novelty.save(folder / _NOVELTY)
    if artifact.neighbours is not None:
        artifact.neighbours.save(folder / _NEIGHBOURS)
    artifact.references.save(folder / _REFERENCE, artifact.findings)
    for name, text in artifact.card.items():
        (folder / name).write_text(text, encoding="utf-8")
    versions = {"consilium": __version__, "python": python_version(), "packages": {p: version(p) for p in _RECORDED}}
    _write_json(folder / _DETAILS, artifact.details | versions)


def _describe(folder: Path) -> bytes:
    files = {
        name: {"sha256": _sha256(folder / name), "size": (folder / name).stat().st_size}
        for name in sorted(_files(folder))
    }
    return _json({"format": FORMAT, "consilium": __version__, "files": files})


def _read_manifest(path: Path) -> bytes:
    with path.open("rb") as file:
        data = file.read(_LARGEST_MANIFEST + 1)
    if len(data) > _LARGEST_MANIFEST:
        raise ArtifactError(f"{MANIFEST}: must have at most {_LARGEST_MANIFEST} bytes")
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


@contextmanager
def _reading(name: str) -> Iterator[None]:
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


def _json(data: object) -> bytes:
    return (json.dumps(data, indent=1, sort_keys=True, allow_nan=False) + "\n").encode()


def _write_json(path: Path, data: object) -> None:
    path.write_bytes(_json(data))


def _read_json(path: Path) -> Any:
    return json.loads(path.read_bytes())


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(folder: Path) -> None:
    for root, _, names in os.walk(folder):
        for name in names:
            sync(Path(root, name))
        sync(Path(root))
