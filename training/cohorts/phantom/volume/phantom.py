"""Volumes of the phantom: how dense a blob at each of four places is, says how likely the findings are."""

from __future__ import annotations

from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from training.cohorts.phantom.phantom_modality import Asked, GaussianPhantom, Sent, Target, Written
from training.cohorts.phantom.record import Design, Drawn, stream
from training.cohorts.phantom.volume.scan import as_nifti, draw_volume

_FOLDER = "volumes"
FINDING_OF = MappingProxyType(
    {"basal": "pneumonia", "central": "heart_failure", "dorsal": "pleural_effusion", "apical": "pneumothorax"}
)
SHIFT = 1.6


class VolumePhantom(GaussianPhantom):
    """One channel a finding; the oracle reads the evidence as drawn."""

    name = "volume"
    truth = "training.modalities.volume.volume_truth:VolumeTruth"
    folders = (_FOLDER,)
    shifts = MappingProxyType({channel: {finding: SHIFT} for channel, finding in FINDING_OF.items()})

    def render(self, design: Design, study: Drawn) -> npt.NDArray[np.int16]:
        return draw_volume(study.evidence.parts[self.name], stream(design, study.index, self.name))

    def write(self, target: Target, rendered: npt.NDArray[np.int16] | None) -> Written:
        if rendered is None:
            return Written({"volumes": ""})
        path = f"{_FOLDER}/{target.study.study_id}.nii.gz"
        (target.root / path).write_bytes(as_nifti(rendered))
        return Written({"volumes": path})

    def request(self, asked: Asked) -> Sent:
        return Sent(files={"volumes": (as_nifti(self.render(asked.design, asked.study)),)})
