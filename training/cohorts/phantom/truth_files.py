"""Truth, which `training.cohorts.manifest` never reads: state, evidence, decisive characters and values, masks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from consilium.domain.errors import InputError
from consilium.modalities.registry import modality_names
from training.cohorts.phantom.evidence import (
    IMAGE_CHANNELS,
    SPEAKS_FOR,
    TEXT_CHANNELS,
    VARIABLE_CHANNELS,
    EvidenceModel,
)
from training.cohorts.phantom.record import Drawn, Rendered, mask_bits, observation_rows
from training.cohorts.phantom.state import MEMBERS

MASKS_FOLDER = "truth/masks"


def state_row(drawn: Drawn) -> dict[str, object]:
    """Findings, confounders, age and sex, also of a study whose record does not tell them."""
    members = dict(zip(MEMBERS, (int(flag) for flag in drawn.state.present), strict=True))
    return {"study": drawn.study_id, **members, "age": drawn.state.age, "sex": drawn.state.sex.value}


def evidence_row(drawn: Drawn, model: EvidenceModel) -> dict[str, object]:
    """Evidence as drawn; a value that was not measured is empty."""
    e = drawn.evidence
    row: dict[str, object] = {"study": drawn.study_id}
    row |= {f"image:{name}": float(x) for name, x in zip(IMAGE_CHANNELS, e.image, strict=True)}
    row |= {f"text:{name}": float(x) for name, x in zip(TEXT_CHANNELS, e.text, strict=True)}
    row |= {f"grade:{name}": int(g) for name, g in zip(TEXT_CHANNELS, model.grades(e.text), strict=True)}
    row |= {
        f"observations:{name}": float(x) if known else None
        for name, x, known in zip(VARIABLE_CHANNELS, e.observations, e.measured, strict=True)
    }
    return row | {f"has:{m}": int(drawn.has(m)) for m in modality_names()}


def span_rows(drawn: Drawn, rendered: Rendered) -> list[dict[str, object]]:
    """Which characters of which note say which channel's grade."""
    spans = rendered.note.spans if rendered.note else ()
    return [
        {
            "study": drawn.study_id,
            "kind": span.kind.value,
            "channel": span.channel,
            "grade": span.grade,
            "start": span.start,
            "stop": span.stop,
        }
        for span in spans
    ]


def decisive_rows(drawn: Drawn, rendered: Rendered) -> list[dict[str, object]]:
    """Which observations speak for which finding, with the evidence that the written value carries."""
    written = observation_rows(drawn, rendered.measurements)
    return [
        {**row, "analyte": m.variable, "finding": SPEAKS_FOR[m.variable], "evidence": m.evidence}
        for row, m in zip(written, rendered.measurements, strict=True)
        if m.evidence is not None
    ]


def write_masks(root: Path, study_id: str, masks: npt.NDArray[np.bool_]) -> None:
    """Store lesion masks, bool [C, H, W]."""
    np.savez_compressed(root / MASKS_FOLDER / f"{study_id}.npz", masks=mask_bits(masks))


def load_masks(root: Path, study_id: str) -> dict[str, npt.NDArray[np.bool_]]:
    """Lesion masks of one study by finding, bool [H, W] in the pixels of its image.

    Raises
    ------
    InputError
        The study has no image, or is not in this cohort.
    """
    file = root / MASKS_FOLDER / f"{study_id}.npz"
    if not file.is_file():
        raise InputError("study", study_id, "must be a phantom study with an image")
    with np.load(file, allow_pickle=False) as stored:
        bits = stored["masks"]
    return {name: (bits >> k & 1).astype(bool) for k, name in enumerate(IMAGE_CHANNELS)}
