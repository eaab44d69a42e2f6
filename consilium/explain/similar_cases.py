"""Neighbours: the training studies that the model sees as most like the one in hand.

What is kept of a training study is its joint state, its labels, which modalities it had, and a pseudonym that only the
holder of the cohort can turn back into a study. No identifier, pixel, word or value of it is stored.

`VectorIndex` finds them. A cohort of more than `MOST` studies is represented by a random sample of as many, and
`Neighbours.cohort_studies` says of how many.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from consilium.domain.diagnosis import Neighbour
from consilium.domain.errors import ArtifactError, InputError
from consilium.domain.findings import FindingSet
from consilium.explain.vector_index import VectorIndex
from consilium.modalities.registry import in_order

MOST = 1_000_000
"""Studies that are searched."""

_FORMAT = 2
FILES = ("neighbours.safetensors", "neighbours.json")
"""In their folder."""
_TENSORS, _NAMES = FILES
_PRESENT = "present/"
_PSEUDONYM = 12
"""Hexadecimal digits of a pseudonym."""
_UNKNOWN = -1
_SEED = 0


def pseudonym(cohort_digest: str, study_id: str) -> str:
    """The first digits of SHA-256 over the cohort's digest and the study's id: whoever holds both finds the study."""
    return hashlib.sha256(f"{cohort_digest}{study_id}".encode()).hexdigest()[:_PSEUDONYM]


@dataclass(frozen=True, slots=True, eq=False)
class Neighbours:
    """N training studies as the model sees them.

    Attributes
    ----------
    states : VectorIndex
        Joint states [N, D] of length 1, in steps of float16, as they are stored.
    labels : int8 [N, F]
        1 present, 0 absent, -1 not known.
    present : dict of str to bool [N]
        Which studies have each of the model's modalities.
    pseudonyms : tuple of str, [N]
    findings : tuple of str, [F]
    cohort_studies : int
        Studies that `fit` was given; more than N where they are a sample.
    """

    states: VectorIndex
    labels: npt.NDArray[np.int8]
    present: dict[str, npt.NDArray[np.bool_]]
    pseudonyms: tuple[str, ...]
    findings: tuple[str, ...]
    cohort_studies: int

    def __len__(self) -> int:
        return len(self.pseudonyms)

    @classmethod
    def fit(
        cls,
        features: npt.NDArray,
        labels: npt.NDArray,
        present: Mapping[str, npt.NDArray[np.bool_]],
        study_ids: Sequence[str] | npt.NDArray,
        cohort_digest: str,
        findings: FindingSet,
    ) -> Neighbours:
        """Keep what `nearest` needs of the training studies.

        Parameters
        ----------
        features : float [N, D]
            Joint states, as `DiagnosisModel.features` gives them under ``fused``.
        labels : float [N, F]
            1 present, 0 absent, NaN unknown.
        present : mapping of str to bool [N]
            Which studies have each of the model's modalities.
        study_ids : [N]
            Enter the pseudonyms and are then forgotten.
        cohort_digest : str
            `Cohort.digest`.

        Raises
        ------
        InputError
            Where there is no study, a state is not finite or has no direction, or the shapes do not agree.
        """
        features = np.asarray(features, np.float64)
        ids = [str(study) for study in study_ids]
        expected = {
            "features": (features.shape[:1], (len(ids),)),
            "labels": (labels.shape, (len(ids), len(findings))),
        }
        expected |= {f"present.{name}": (there.shape, (len(ids),)) for name, there in present.items()}
        for name, (shape, wanted) in expected.items():
            if shape != wanted or not ids:
                raise InputError(f"neighbours.{name}", list(shape), f"must be of {list(wanted)}, of at least one study")
        kept = np.arange(len(ids))
        if len(ids) > MOST:
            kept = np.sort(np.random.default_rng(_SEED).choice(len(ids), MOST, replace=False))
        known = np.where(np.isnan(labels[kept]), _UNKNOWN, labels[kept])
        return cls(
            states=VectorIndex.build(_unit(features[kept]).astype(np.float16).astype(np.float32)),
            labels=known.astype(np.int8),
            present={name: np.asarray(there[kept], bool) for name, there in present.items()},
            pseudonyms=tuple(pseudonym(cohort_digest, ids[row]) for row in kept.tolist()),
            findings=findings.names,
            cohort_studies=len(ids),
        )

    def having(self, labels: Mapping[str, bool], modalities: Sequence[str] = ()) -> npt.NDArray[np.bool_]:
        """Which studies are known to have each finding of `labels` as it says there, and have all of `modalities`.

        Returns
        -------
        bool [N]

        Raises
        ------
        InputError
            For a finding or a modality that no study was asked for.
        """
        chosen = np.ones(len(self), bool)
        for name, present in labels.items():
            if name not in self.findings:
                raise InputError("labels", name, f"must be one of {', '.join(self.findings)}")
            chosen &= self.labels[:, self.findings.index(name)] == int(present)
        for modality in modalities:
            if modality not in self.present:
                raise InputError("having", modality, f"must be one of {', '.join(in_order(self.present))}")
            chosen &= self.present[modality]
        return chosen

    def nearest(
        self, state: npt.ArrayLike, k: int, among: npt.NDArray[np.bool_] | None = None
    ) -> tuple[Neighbour, ...]:
        """The `k` studies (all, where there are fewer) whose states point most nearly as `state` [D] does.

        Most alike first, by cosine; of two that are equally alike the one that was kept first. Of those alone that
        `among` [N] names, where it is given.

        Raises
        ------
        InputError
            Where `state` is of another width, not finite or without a direction, or `k` is below 1.
        """
        asked = np.asarray(state, np.float64).reshape(1, -1)
        width = self.states.vectors.shape[1]
        if asked.shape[1] != width:
            raise InputError("state", asked.shape[1], f"must have {width} dimensions")
        if k < 1:
            raise InputError("k", k, "must be at least 1")
        found = self.states.nearest(_unit(asked)[0], k, among)
        return tuple(self._neighbour(row, alike) for row, alike in zip(*(one.tolist() for one in found), strict=True))

    def _neighbour(self, row: int, similarity: float) -> Neighbour:
        labels = dict(zip(self.findings, self.labels[row].tolist(), strict=True))
        return Neighbour(
            pseudonym=self.pseudonyms[row],
            similarity=float(np.clip(similarity, -1, 1)),
            labels={name: None if value == _UNKNOWN else bool(value) for name, value in labels.items()},
            modalities=in_order(name for name, there in self.present.items() if there[row]),
        )

    def save(self, folder: Path) -> None:
        """Write states (float16), labels and modalities as safetensors, pseudonyms as JSON, into `folder`."""
        folder.mkdir(parents=True, exist_ok=True)
        tensors: dict[str, npt.NDArray] = {
            "embeddings": self.states.vectors.astype(np.float16),
            "labels": self.labels,
            **self.states.tensors(),
        }
        tensors |= {f"{_PRESENT}{name}": there.astype(np.uint8) for name, there in self.present.items()}
        save_file(tensors, folder / _TENSORS)
        names = {
            "format": _FORMAT,
            "pseudonyms": list(self.pseudonyms),
            "findings": list(self.findings),
            "cohort_studies": self.cohort_studies,
        }
        (folder / _NAMES).write_text(json.dumps(names), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Neighbours:
        """Read what `save` wrote; nothing is unpickled.

        Raises
        ------
        ArtifactError
            Where it is not there, of another format, or does not fit together.
        """
        try:
            names = json.loads((folder / _NAMES).read_text(encoding="utf-8"))
            tensors = load_file(folder / _TENSORS)
            if names["format"] != _FORMAT:
                raise ArtifactError(f"neighbours of format {names['format']!r}; this version reads {_FORMAT}")
            loaded = cls(
                states=VectorIndex.of(tensors["embeddings"].astype(np.float32), tensors),
                labels=tensors["labels"],
                present={
                    name.removeprefix(_PRESENT): there.astype(bool)
                    for name, there in tensors.items()
                    if name.startswith(_PRESENT)
                },
                pseudonyms=tuple(names["pseudonyms"]),
                findings=tuple(names["findings"]),
                cohort_studies=int(names["cohort_studies"]),
            )
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            raise ArtifactError(f"the nearest training cases cannot be read ({type(error).__name__})") from None
        studies = len(loaded)
        shapes = (len(loaded.states), loaded.labels.shape, {there.shape for there in loaded.present.values()})
        if shapes != (studies, (studies, len(loaded.findings)), {(studies,)}):
            raise ArtifactError("the nearest training cases do not fit together")
        return loaded


def _unit(states: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """`states` [N, D] at length 1."""
    length = np.linalg.norm(states, axis=1, keepdims=True)
    if not (np.isfinite(length) & (length > 0)).all():
        raise InputError("state", "without a direction", "must be finite and not all zero")
    return (states / length).astype(np.float32)
