"""Images of the phantom: evidence, radiographs as DICOM files, masks of lesions, and the report dictated afterwards."""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from PIL import Image as Picture

from consilium.domain.study import Sex
from training.cohorts.phantom.image.dictation import render_report, site_prompts
from training.cohorts.phantom.image.dx import Header, write_dx
from training.cohorts.phantom.image.lesions import Look, ordinary_look
from training.cohorts.phantom.image.masks import MASKS_FOLDER, write_masks
from training.cohorts.phantom.image.radiograph import BITS, Radiograph, render_radiograph
from training.cohorts.phantom.phantom_modality import Asked, GaussianPhantom, Sent, Target, Written
from training.cohorts.phantom.record import Design, Drawn, stream
from training.cohorts.phantom.tables import table

_FOLDER = "images"
_ASKED_SIDES = (64, 160)
"""Least and most rows of an image in a request: a larger one adds bytes, and nothing that a request is to show."""


class ImagePhantom(GaussianPhantom):
    """One channel a finding; the oracle reads the evidence as drawn.

    Attributes
    ----------
    report_table : str
        Name of the stored table that a report is dictated from.
    """

    name = "image"
    truth = "training.modalities.image.image_truth:ImageTruth"
    missing = table("evidence")["missing_modality"]["image"]
    shifts = table("evidence")["image"]
    folders = (_FOLDER, MASKS_FOLDER)
    report_table: ClassVar[str] = "report"

    @property
    def look(self) -> Look:
        """What its channels look like."""
        return ordinary_look

    @classmethod
    def prompts(cls) -> Mapping[str, dict[str, list[str]]]:
        return site_prompts(cls.report_table)

    def render(self, design: Design, study: Drawn) -> Radiograph:
        rng = stream(design, study.index, "image")
        evidence: npt.NDArray[np.float64] = study.evidence.parts[self.name]
        return render_radiograph(evidence, rng, design.size, study.site, look=self.look, device=design.device)

    def write(self, target: Target, rendered: Radiograph | None) -> Written:
        if rendered is None:
            return Written({"images": ""}, {"note_findings": "", "note_impression": ""})
        study, design = target.study, target.design
        image = f"{_FOLDER}/{study.study_id}.dcm"
        write_dx(target.root / image, rendered, _header(design, study))
        write_masks(target.root, study.study_id, rendered.masks)
        evidence = study.evidence.parts[self.name]
        rng = stream(design, study.index, "report")
        findings, impression = render_report(evidence, target.probabilities, rng, self.report_table)
        return Written({"images": image}, {"note_findings": findings, "note_impression": impression})

    def request(self, asked: Asked) -> Sent:
        """One view and two, in turn, about as large as the model reads them."""
        study, size = asked.study, int(np.clip(asked.preprocessing.recipe.modalities[self.name].size, *_ASKED_SIDES))
        rng, evidence = stream(asked.design, study.index, "image"), study.evidence.parts[self.name]
        views = (
            render_radiograph(evidence, rng, size, study.site, look=self.look) for _ in range(1 + asked.repetition % 2)
        )
        return Sent(files={"images": tuple(_png(view.pixels) for view in views)})


def _png(pixels: npt.NDArray[np.uint16]) -> bytes:
    """The 12-bit `pixels` with the 8 bits that a small file has room for."""
    file = BytesIO()
    Picture.fromarray((pixels >> (BITS - 8)).astype(np.uint8)).save(file, "PNG")
    return file.getvalue()


def _header(design: Design, study: Drawn) -> Header:
    return Header(
        seed=f"{design.seed} {design.size} {design.shortcut} {design.shift} {study.index}",
        patient_id=study.patient_id,
        study_id=study.study_id,
        site=study.site,
        acquired=study.reference_time,
        age=study.state.age if study.demographics else None,
        sex=study.state.sex if study.demographics else Sex.UNKNOWN,
    )
