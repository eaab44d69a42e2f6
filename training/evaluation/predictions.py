"""Predictions: a model's logits of many studies, before calibration, beside their labels.

The one thing that passes from inference to calibration and evaluation. Logits are given for every modality subset that
a study has, so that each row of an evaluation is a selection and never another pass through the model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from consilium.calibration import Calibration, present_subsets
from consilium.domain.errors import TrainingError
from training.evaluation.targets.target_predictions import TargetPredictions

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Predictions:
    """Uncalibrated logits and labels of N studies.

    Attributes
    ----------
    study_ids, patient_ids : str [N]
        Pseudonyms.
    labels : float [N, F]
        1 present, 0 absent, NaN unknown.
    present : dict of str to bool [N]
        Which studies have each of the model's modalities.
    fused : dict of subset_key to float [N, F]
        Logits given that subset alone; rows of NaN where the study lacks one of its modalities.
    unimodal : dict of str to float [N, F]
        Logits of each modality's own head; rows of NaN where the study lacks it.
    features : dict of str to float32 [N, D of each]
        What the encoders and the fusion made of each study, under a modality's name or ``fused``; rows of NaN where the
        study lacks the modality.
    out_of_distribution : dict of str to float [N]
        Scores of an `OutOfDistributionDetector`, under the same names; NaN where the study lacks the modality. Empty:
        not scored.
    targets : TargetPredictions or None
        Of the targets beside the findings; None where the model has none.
    """

    study_ids: npt.NDArray[np.str_]
    patient_ids: npt.NDArray[np.str_]
    labels: npt.NDArray
    present: dict[str, npt.NDArray[np.bool_]]
    fused: dict[str, npt.NDArray]
    unimodal: dict[str, npt.NDArray]
    features: dict[str, npt.NDArray[np.float32]] = field(default_factory=dict)
    out_of_distribution: dict[str, npt.NDArray] = field(default_factory=dict)
    targets: TargetPredictions | None = None

    def __post_init__(self) -> None:
        studies, findings = len(self.study_ids), self.labels.shape[-1]
        shapes = {
            "patient_ids": (self.patient_ids.shape, (studies,)),
            "labels": (self.labels.shape, (studies, findings)),
        }
        shapes |= {f"present of {name}": (there.shape, (studies,)) for name, there in self.present.items()}
        logits = {**self.fused, **{f"{modality} alone": values for modality, values in self.unimodal.items()}}
        shapes |= {name: (values.shape, (studies, findings)) for name, values in logits.items()}
        shapes |= {f"features of {part}": (v.shape, (studies, *v.shape[1:2])) for part, v in self.features.items()}
        shapes |= {
            f"out of distribution, {part}": (v.shape, (studies,)) for part, v in self.out_of_distribution.items()
        }
        for name, (shape, expected) in shapes.items():
            if shape != expected:
                raise TrainingError(f"predictions: {name} must be {list(expected)}, got {list(shape)}")
        needed = {name for subset in self.fused for name in subset.split("+")} | self.unimodal.keys()
        for name in sorted(needed - self.present.keys()):
            raise TrainingError(f"predictions: no column says which studies have {name}")
        if len(set(self.study_ids.tolist())) != studies:
            raise TrainingError("predictions: a study stands in them twice")

    def __len__(self) -> int:
        return len(self.study_ids)

    @property
    def subsets(self) -> npt.NDArray[np.str_]:
        """Key of what each study has, of the modalities that the model reads, [N]."""
        return np.array(present_subsets(self.present))

    def as_present(self, rows: dict[str, npt.NDArray]) -> Floats:
        """From values per subset, [N, ...], those of the subset that each study has; NaN where it has nothing."""
        chosen = np.full(next(iter(rows.values()), self.labels).shape, np.nan)
        for subset, values in rows.items():
            here = self.subsets == subset
            chosen[here] = values[here]
        return chosen

    def probabilities(self, calibration: Calibration) -> dict[str, Floats]:
        """Calibrated probabilities of the fused model per subset, [N, F]; NaN where a modality is absent."""
        return {subset: calibration.probabilities(logits, subset) for subset, logits in self.fused.items()}

    def select(self, rows: npt.NDArray) -> Predictions:
        """The studies at `rows`, indices or a mask [N]."""
        return Predictions(
            self.study_ids[rows],
            self.patient_ids[rows],
            self.labels[rows],
            {modality: there[rows] for modality, there in self.present.items()},
            {subset: values[rows] for subset, values in self.fused.items()},
            {modality: values[rows] for modality, values in self.unimodal.items()},
            {part: values[rows] for part, values in self.features.items()},
            {part: values[rows] for part, values in self.out_of_distribution.items()},
            None if self.targets is None else self.targets.select(rows),
        )

    @classmethod
    def concatenate(cls, parts: Sequence[Predictions]) -> Predictions:
        """All studies of `parts`, which must hold the same subsets and modalities and no study twice."""
        if not parts:
            raise TrainingError("predictions: there is nothing to put together")
        first = parts[0]
        if any(p._columns() != first._columns() for p in parts):
            raise TrainingError("predictions: parts of different modalities or features cannot be put together")
        of_targets = [part.targets for part in parts if part.targets is not None]
        return cls(
            np.concatenate([part.study_ids for part in parts]),
            np.concatenate([part.patient_ids for part in parts]),
            np.concatenate([part.labels for part in parts]),
            {modality: np.concatenate([part.present[modality] for part in parts]) for modality in first.present},
            {subset: np.concatenate([part.fused[subset] for part in parts]) for subset in first.fused},
            {modality: np.concatenate([part.unimodal[modality] for part in parts]) for modality in first.unimodal},
            {name: np.concatenate([part.features[name] for part in parts]) for name in first.features},
            {
                name: np.concatenate([part.out_of_distribution[name] for part in parts])
                for name in first.out_of_distribution
            },
            TargetPredictions.concatenate(of_targets) if len(of_targets) == len(parts) else None,
        )

    def _columns(self) -> tuple[set[str], ...]:
        """What there is a column of; predictions of the same columns can be put together."""
        widths = {f"{name} {values.shape[1]}" for name, values in self.features.items()}
        of_targets = set() if self.targets is None else set(self.targets.logits)
        names = set(self.present), set(self.fused), set(self.unimodal), set(self.out_of_distribution)
        return *names, widths, of_targets

    def save(self, path: Path) -> None:
        """Write an ``.npz`` that `load` reads back to the bit."""
        columns = {
            "study_ids": np.asarray(self.study_ids, np.str_),
            "patient_ids": np.asarray(self.patient_ids, np.str_),
            "labels": self.labels,
        }
        columns |= {f"present/{modality}": there for modality, there in self.present.items()}
        columns |= {f"fused/{subset}": values for subset, values in self.fused.items()}
        columns |= {f"alone/{modality}": values for modality, values in self.unimodal.items()}
        columns |= {f"features/{part}": values for part, values in self.features.items()}
        columns |= {f"out_of_distribution/{part}": values for part, values in self.out_of_distribution.items()}
        columns |= {} if self.targets is None else self.targets.columns()
        with path.open("wb") as file:
            np.savez(file, allow_pickle=False, **columns)

    @classmethod
    def load(cls, path: Path) -> Predictions:
        """Read what `save` wrote; nothing is unpickled."""
        with np.load(path, allow_pickle=False) as file:
            columns = {name: file[name] for name in file.files}

        def under(kind: str) -> dict[str, npt.NDArray]:
            return {name.removeprefix(kind): v for name, v in columns.items() if name.startswith(kind)}

        return cls(
            columns["study_ids"],
            columns["patient_ids"],
            columns["labels"],
            under("present/"),
            under("fused/"),
            under("alone/"),
            under("features/"),
            under("out_of_distribution/"),
            TargetPredictions.from_columns(columns),
        )
