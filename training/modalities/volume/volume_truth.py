"""Where the evidence of a phantom's volumes lies, and the volumes without one piece of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt

from consilium.domain.errors import TrainingError
from consilium.explain.case import Case
from consilium.modalities.volume.explanation import EXPLANATION
from consilium.modalities.volume.records import read_volume
from consilium.modalities.volume.volume_converter import VOLUMES
from training.cohorts.phantom.record import Design, stream
from training.cohorts.phantom.volume.phantom import FINDING_OF, SHIFT
from training.cohorts.phantom.volume.scan import as_nifti, places
from training.evaluation.faithfulness.phantom_truth import ModalityTruth, Remade
from training.evaluation.faithfulness.truth import Mask, Twin

_NEUTRAL = SHIFT / 2
"""Evidence as likely with a finding as without it."""


class VolumeTruth(ModalityTruth):
    """Evidence shows in the voxels of the first volume."""

    name = "volume"

    def view(self, case: Case, weights: npt.NDArray) -> npt.NDArray:
        saliency = EXPLANATION.attributions(case, weights)[0]
        return np.nan_to_num(np.stack([saliency.over(place) for place in range(saliency.shape[0])]))

    def masks(self, study_id: str) -> Mapping[str, Mask]:
        design = Design.load(self.root)
        assert design is not None
        where = places(stream(design, int(study_id.removeprefix("S")), self.name))
        return dict(zip(FINDING_OF.values(), where, strict=True))

    def twins(self, remade: Remade) -> Iterator[Twin]:
        evidence = remade.drawn.evidence.parts[self.name]
        prepared, preprocessing = remade.case.prepared, remade.case.preprocessing
        convert = preprocessing.preparations[self.name].convert
        own = convert(read_volume(as_nifti(remade.render(self.name, evidence))))
        if not np.array_equal(own, prepared.parts[self.name].arrays[VOLUMES][0]):
            raise TrainingError("this version renders the phantom's volumes otherwise; write the cohort anew")
        masks = self.masks(prepared.study.study_id)
        for channel, finding in enumerate(FINDING_OF.values()):
            changed = evidence.copy()
            changed[channel] = _NEUTRAL
            volume = convert(read_volume(as_nifti(remade.render(self.name, changed))))
            if not np.array_equal(volume, own):
                fall = remade.fall(self.name, changed[None], finding)
                twin = preprocessing.prepare(prepared.study, {self.name: [volume]})
                yield Twin(self.name, finding, twin, fall, masks[finding])
