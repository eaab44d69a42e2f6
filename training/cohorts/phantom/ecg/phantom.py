"""ECGs of the phantom: how fast, broad, small and raised their beats are, says how likely the findings are."""

from __future__ import annotations

from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from training.cohorts.phantom.ecg.heartbeats import as_wfdb, draw_ecg
from training.cohorts.phantom.phantom_modality import Asked, GaussianPhantom, Sent, Target, Written
from training.cohorts.phantom.record import Design, Drawn, stream

_FOLDER = "ecg"


class EcgPhantom(GaussianPhantom):
    """One channel a finding; the oracle reads the evidence as drawn."""

    name = "ecg"
    folders = (_FOLDER,)
    shifts = MappingProxyType(
        {
            "rate": {"pneumonia": 1.4},
            "qrs": {"heart_failure": 1.4},
            "voltage": {"pleural_effusion": 1.4},
            "st": {"pneumothorax": 1.4},
        }
    )

    def render(self, design: Design, study: Drawn) -> npt.NDArray[np.int16]:
        return draw_ecg(study.evidence.parts[self.name], stream(design, study.index, self.name))

    def write(self, target: Target, rendered: npt.NDArray[np.int16] | None) -> Written:
        if rendered is None:
            return Written({"ecg": ""})
        path = f"{_FOLDER}/{target.study.study_id}.zip"
        (target.root / path).write_bytes(as_wfdb(rendered))
        return Written({"ecg": path})

    def request(self, asked: Asked) -> Sent:
        return Sent(files={"ecgs": (as_wfdb(self.render(asked.design, asked.study)),)})
