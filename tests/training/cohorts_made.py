"""Small cohorts on disk and in memory that tests of training share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image as Pillow

from consilium.configuration.recipe import Recipe
from consilium.domain.study import RecordFile
from tests.consilium.tiny import FINDINGS, THREE, tiny_recipe, tiny_study
from training.cohorts.cohort import Cohort, StudyRecord, cohort_digest


class Sink:
    """Remembers what was logged: metric → step → value."""

    def __init__(self) -> None:
        self.seen: dict[str, dict[int, float]] = {}

    def log(self, metrics, step: int) -> None:
        for name, value in metrics.items():
            self.seen.setdefault(name, {})[step] = value

    def flush(self) -> None:
        pass


def tiny_training_recipe(**sections: object) -> Recipe:
    """As `tiny_recipe`, at the smallest image size, with little training."""
    training = {"epochs": 3, "batch_size": 8, "learning_rate": 0.01}
    image = {"encoder": "resnet18", "size": 64, "width": 8}
    return tiny_recipe(**({"training": training, "image": image, "evaluation": {"bootstrap": 50}} | sections))


def tiny_cohort(root: Path, studies: int = 40, seed: int = 0) -> Cohort:
    """Studies with a PNG, a note and values, some without; the second finding shows in age and CRP."""
    root.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    records = []
    for number in range(studies):
        lacking = rng.random(3) < 0.2
        has = frozenset(m for m, absent in zip(THREE, lacking, strict=True) if not absent) or frozenset(THREE)
        study = tiny_study(number, has)
        files = {}
        if study.parts["image"]:
            path = root / f"{number}.png"
            Pillow.fromarray(study.parts["image"][0].pixels).save(path)
            files = {"image": (RecordFile("images", path, {"acquired": study.parts["image"][0].acquired}),)}
        old = study.patient.age is not None and study.patient.age > 50
        labels = np.array([number % 2, float(old) if number % 7 else np.nan], np.float32)
        records.append(
            StudyRecord(
                study.study_id,
                f"p{number // 2}",
                labels,
                files,
                {"text": study.parts["text"], "observations": study.parts["observations"]},
                study.patient,
                study.reference_time,
            )
        )
    digest = cohort_digest("tiny", "", FINDINGS, records, root)
    return Cohort("tiny", FINDINGS, tuple(records), root, digest)
