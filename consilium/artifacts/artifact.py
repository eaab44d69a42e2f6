"""Artifact: everything a diagnosis needs, as a folder that can be checked.

    model.safetensors      weights
    recipe.yaml            the whole configuration
    findings.json          what is diagnosed
    preprocessing/         scaling, text configuration and tokenizer files
    calibration.json       what turns logits into probabilities
    out_of_distribution.safetensors    what is unlike the training data; where `refer.out_of_distribution` is set
    neighbours/            the training cases that a study is compared with, where there are any
    monitoring/            what studies in service are compared with, where there is anything
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
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from platform import python_version
from typing import Any

import torch
from safetensors.torch import load_model, save_model

from consilium import __version__
from consilium.artifacts.manifest import (
    AUDIT,
    CALIBRATION,
    CARD_FILES,
    DETAILS,
    DETECTOR,
    FINDINGS,
    MANIFEST,
    MONITORING,
    NEIGHBOURS,
    PREPROCESSING,
    RECIPE,
    REFERENCE,
    WEIGHTS,
    as_json,
    describe,
    read_findings,
    read_json,
    read_recipe,
    reading,
    verify,
)
from consilium.artifacts.reference_studies import References
from consilium.calibration import Calibration
from consilium.configuration.recipe import Recipe
from consilium.domain.diagnosis import AuditVerdict
from consilium.domain.errors import ArtifactError
from consilium.domain.findings import FindingSet
from consilium.explain.similar_cases import Neighbours
from consilium.monitoring.reference import MonitoringReference
from consilium.network.diagnosis_model import FUSED, DiagnosisModel
from consilium.preprocessing.collate import Preprocessing
from consilium.referral.out_of_distribution import OutOfDistributionDetector
from consilium.system.durable import sync

RECORDED_PACKAGES = ("torch", "monai", "transformers", "tokenizers", "safetensors", "numpy", "scipy")


@dataclass(frozen=True, slots=True, eq=False)
class Artifact:
    """A trained model and all that it needs.

    Attributes
    ----------
    details : dict
        Facts of the training, for `json.dumps`: metrics, cohort digest, sizes of the splits. Nothing of any patient.
        A loaded artifact also has ``consilium``, ``python`` and ``packages``: the versions that wrote it.
    detector : OutOfDistributionDetector or None
        None where the recipe has no `refer.out_of_distribution`, and only there.
    audit : AuditVerdict
        Of the cohort that the model learned from.
    neighbours : Neighbours or None
        Training cases to show beside a study.
    card : dict of str to str
        The model's card: text by file name, each of `CARD_FILES`.
    references : References
        Made-up studies and what the model answers to them.
    monitoring : MonitoringReference or None
        Of studies that the model has not learned from; None of models trained before there was one.

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
    detector: OutOfDistributionDetector | None = None
    audit: AuditVerdict = field(default_factory=AuditVerdict)
    neighbours: Neighbours | None = None
    card: dict[str, str] = field(default_factory=dict)
    references: References = field(kw_only=True)
    monitoring: MonitoringReference | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        if (self.detector is None) != (self.recipe.refer.out_of_distribution is None):
            rule = "be there where, and only where, the recipe refers by it"
            raise ArtifactError(
                f"{DETECTOR}: must {rule} (refer.out_of_distribution: {self.recipe.refer.out_of_distribution})"
            )
        parts = set(self.recipe.modalities) | {FUSED}
        if self.detector is not None and set(self.detector.gaussians) != parts:
            raise ArtifactError(f"{DETECTOR}: must know {', '.join(sorted(parts))}")
        known, watched = (parts, set(self.findings.names)), self.monitoring
        if watched is not None and (set(watched.projections), set(watched.centres)) != known:
            raise ArtifactError(f"{MONITORING}: must know {', '.join(sorted(parts))} and each of the findings")
        unknown = sorted(set(self.card) - set(CARD_FILES))
        if unknown:
            raise ArtifactError(f"{unknown[0]}: the card's files are {' and '.join(CARD_FILES)}")


def save_artifact(folder: Path, artifact: Artifact) -> str:
    """Write `artifact` into `folder`, which must not exist, and give its manifest's SHA-256.

    The folder appears whole and on disk, or not at all: it is written beside its place and renamed.

    Raises
    ------
    ArtifactError
        Where `folder` exists.
    """
    return write_folder(folder, "artifact", lambda partial: _write_parts(partial, artifact))


def write_folder(folder: Path, what: str, write_parts: Callable[[Path], None], mode: int = 0o755) -> str:
    """Let `write_parts` write into `folder`, which must not exist, beside a manifest, and give that one's SHA-256.

    The folder appears whole and on disk, or not at all: it is written beside its place and renamed. `mode` says who
    may read it.

    Raises
    ------
    ArtifactError
        Where `folder` exists; `what` is the error's field.
    """
    if folder.exists() or folder.is_symlink():
        raise ArtifactError(f"{what}: got {folder.name!r}, must be a folder that does not exist yet")
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}.", suffix=".partial"))
    try:
        write_parts(partial)
        manifest = describe(partial)
        (partial / MANIFEST).write_bytes(manifest)
        partial.chmod(mode)  # mkdtemp lets nobody else read
        _sync_folder(partial)
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
    with reading(CALIBRATION):
        calibration = Calibration.from_json(read_json(folder / CALIBRATION))
    if calibration.findings != findings:
        raise ArtifactError(f"{CALIBRATION}: its findings must be those of {FINDINGS}")
    with reading(DETAILS):
        details = dict(read_json(folder / DETAILS))
    with reading(AUDIT):
        audit = AuditVerdict.from_json(read_json(folder / AUDIT))
    with reading(PREPROCESSING):
        preprocessing = Preprocessing.load(folder / PREPROCESSING, recipe)
        model = DiagnosisModel(recipe, findings, preprocessing, pretrained=False)
    with reading(WEIGHTS):
        load_model(model, folder / WEIGHTS, strict=True)
    if not all(torch.isfinite(tensor).all() for tensor in model.state_dict().values()):
        raise ArtifactError(f"{WEIGHTS}: every weight must be finite")
    return Artifact(
        recipe=recipe,
        findings=findings,
        preprocessing=preprocessing,
        model=model.to(device).eval(),
        calibration=calibration,
        details=details,
        detector=_read_detector(folder),
        audit=audit,
        neighbours=_read_neighbours(folder),
        card={name: (folder / name).read_text(encoding="utf-8") for name in CARD_FILES if (folder / name).exists()},
        references=_read_references(folder, findings),
        monitoring=_read_monitoring(folder),
    )


def _read_detector(folder: Path) -> OutOfDistributionDetector | None:
    if not (folder / DETECTOR).exists():
        return None
    with reading(DETECTOR):
        return OutOfDistributionDetector.load(folder / DETECTOR)


def _read_neighbours(folder: Path) -> Neighbours | None:
    if not (folder / NEIGHBOURS).exists():
        return None
    with reading(NEIGHBOURS):
        return Neighbours.load(folder / NEIGHBOURS)


def _read_monitoring(folder: Path) -> MonitoringReference | None:
    if not (folder / MONITORING).exists():
        return None
    with reading(MONITORING):
        return MonitoringReference.load(folder / MONITORING)


def _read_references(folder: Path, findings: FindingSet) -> References:
    with reading(REFERENCE):
        return References.load(folder / REFERENCE, findings)


def _write_parts(folder: Path, artifact: Artifact) -> None:
    save_model(artifact.model, str(folder / WEIGHTS))
    (folder / RECIPE).write_text(artifact.recipe.to_yaml(), encoding="utf-8")
    _write_json(folder / FINDINGS, artifact.findings.to_json())
    artifact.preprocessing.save(folder / PREPROCESSING)
    _write_json(folder / CALIBRATION, artifact.calibration.to_json())
    _write_json(folder / AUDIT, artifact.audit.to_json())
    if artifact.detector is not None:
        artifact.detector.save(folder / DETECTOR)
    if artifact.neighbours is not None:
        artifact.neighbours.save(folder / NEIGHBOURS)
    artifact.references.save(folder / REFERENCE, artifact.findings)
    if artifact.monitoring is not None:
        artifact.monitoring.save(folder / MONITORING)
    for name, text in artifact.card.items():
        (folder / name).write_text(text, encoding="utf-8")
    versions = {
        "consilium": __version__,
        "python": python_version(),
        "packages": {p: version(p) for p in RECORDED_PACKAGES},
    }
    _write_json(folder / DETAILS, artifact.details | versions)


def _write_json(path: Path, data: object) -> None:
    path.write_bytes(as_json(data))


def _sync_folder(folder: Path) -> None:
    """Have every file and folder below `folder` on disk."""
    for root, _, names in os.walk(folder):
        for name in names:
            sync(Path(root, name))
        sync(Path(root))
