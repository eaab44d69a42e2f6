"""References: made-up studies in the artifact, and what the model answered to them when it was trained.

    reference/studies.json     each study as a request of the service, the names of its files, and the answers
    reference/00-images-0      the first image of the first study, and so on

Whoever loads the model asks them again (`consilium.inference.self_test`). They are read as any request is, so what is
tried is the whole way from a caller's bytes to a probability. Nothing of them comes from a patient.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import torch
from pydantic import BaseModel, ConfigDict, Field

from consilium.api.schemas import DiagnoseRequest
from consilium.artifacts.manifest import STUDIES
from consilium.calibration import Calibration
from consilium.domain.errors import InputError
from consilium.domain.findings import FindingSet
from consilium.domain.study import Study
from consilium.domain.variables import BUILT_IN, VariableTable
from consilium.ingest.study_records import read_files, study_from_records
from consilium.modalities.registry import subset_key
from consilium.network.diagnosis_model import DiagnosisModel
from consilium.preprocessing.collate import Preprocessing

MOST = 256
"""Studies: they are asked whenever a model is loaded."""
_DIGITS = 6


@dataclass(frozen=True, slots=True)
class ReferenceStudy:
    """A made-up study as a caller would send it: `files` are bytes, by the name under which they are sent."""

    request: DiagnoseRequest
    files: Mapping[str, tuple[bytes, ...]] = field(default_factory=dict)

    def study(self, variables: VariableTable = BUILT_IN) -> Study:
        """What ingest makes of it; `InputError` where that is nothing."""
        request = self.request
        return study_from_records(
            **read_files(self.files),
            **request.records,
            variables=variables,
        )


class _Stored(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    request: DiagnoseRequest
    files: dict[str, tuple[Annotated[str, Field(pattern=r"^[0-9]+-[a-z0-9_]+-[0-9]+$")], ...]]
    probabilities: dict[str, Annotated[float, Field(ge=0, le=1)]]


class _StoredStudies(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    studies: Annotated[tuple[_Stored, ...], Field(min_length=1, max_length=MOST)]


@dataclass(frozen=True, slots=True, eq=False)
class References:
    """N reference studies and the answers to them.

    Attributes
    ----------
    studies : tuple of ReferenceStudy, [N]
    probabilities : float64 [N, F]
        Calibrated, by the model in eager float32 on the CPU, each study by itself.
    """

    studies: tuple[ReferenceStudy, ...]
    probabilities: npt.NDArray[np.float64]

    @classmethod
    def answered(
        cls,
        studies: Sequence[ReferenceStudy],
        preprocessing: Preprocessing,
        model: DiagnosisModel,
        calibration: Calibration,
    ) -> References:
        """`studies` with the answers of `model`."""
        plain = copy.deepcopy(model).to("cpu", torch.float32).eval()
        answers = []
        with torch.inference_mode():
            for reference in studies:
                prepared = preprocessing.prepare(reference.study(preprocessing.variables))
                logits = plain(preprocessing.collate([prepared])).fused.double().numpy()
                answers.append(calibration.probabilities(logits, subset_key(prepared.present))[0])
        return cls(tuple(studies), np.round(answers, _DIGITS))

    def save(self, folder: Path, findings: FindingSet) -> None:
        """Write them into `folder`, which is made."""
        folder.mkdir()
        stored = []
        for number, (reference, row) in enumerate(zip(self.studies, self.probabilities.tolist(), strict=True)):
            files = {name: _write(folder, f"{number:02d}-{name}", sent) for name, sent in reference.files.items()}
            answers = dict(zip(findings.names, row, strict=True))
            stored.append(_Stored(request=reference.request, files=files, probabilities=answers))
        text = _StoredStudies(studies=tuple(stored)).model_dump_json(indent=1, exclude_defaults=True)
        (folder / STUDIES).write_text(text + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path, findings: FindingSet) -> References:
        """Read what `save` wrote.

        Raises
        ------
        ValueError
            Where it is nothing of that kind.
        InputError
            Where the answers are not to `findings`.
        """
        stored = _StoredStudies.model_validate_json((folder / STUDIES).read_bytes()).studies
        for one in stored:
            if tuple(one.probabilities) != findings.names:
                rule = f"must be answers to {', '.join(findings.names)}"
                raise InputError("probabilities", ", ".join(one.probabilities), rule)
        studies = tuple(
            ReferenceStudy(
                one.request,
                {name: tuple((folder / file).read_bytes() for file in files) for name, files in one.files.items()},
            )
            for one in stored
        )
        return cls(studies, np.array([list(one.probabilities.values()) for one in stored]))


def _write(folder: Path, prefix: str, contents: Sequence[bytes]) -> tuple[str, ...]:
    """The names of the files that `contents` were written to."""
    names = tuple(f"{prefix}-{place}" for place in range(len(contents)))
    for name, data in zip(names, contents, strict=True):
        (folder / name).write_bytes(data)
    return names
