"""A model of full size with random weights: what it costs does not depend on what it has learned."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from consilium.artifacts.artifact import Artifact, save_artifact
from consilium.artifacts.reference_studies import References
from consilium.calibration import Calibration, fit_calibration
from consilium.configuration.recipe import Recipe
from consilium.domain.findings import Finding, FindingSet
from consilium.domain.study import Patient, Sex, Study
from consilium.modalities.image.image_record import Image
from consilium.modalities.observations.observation import Observation
from consilium.modalities.registry import nonempty_subsets, subset_key
from consilium.modalities.text.note import Note, NoteKind
from consilium.network.diagnosis_model import DiagnosisModel
from consilium.preprocessing.collate import Preprocessing
from training.pipeline.reference_studies import reference_studies

FINDINGS = FindingSet(
    tuple(
        Finding(name, name.replace("_", " ").capitalize())
        for name in ("pneumonia", "heart_failure", "pleural_effusion", "pneumothorax")
    )
)
WORDS = ("fever", "cough", "dyspnoea", "oedema", "wheeze", "chills", "sputum", "no", "known", "for", "three", "days")


def study(number: int, side: int) -> Study:
    """A study with every modality; as dear as a real one, and as meaningless as noise."""
    rng = np.random.default_rng(number)
    image = Image(rng.integers(0, 65536, (side, side), dtype=np.uint16), f"{number:064x}", "png")
    crp, rate = float(rng.lognormal(3)), float(rng.normal(90, 15))
    return Study(
        {
            "image": (image,),
            "text": (Note(NoteKind.HISTORY, " ".join(rng.choice(WORDS, 40))),),
            "observations": (
                Observation("crp", "1988-5", crp, crp, "mg/L"),
                Observation("heart_rate", "8867-4", rate, rate, "/min"),
            ),
        },
        patient=Patient(float(rng.integers(20, 90)), Sex.FEMALE),
    )


def random_recipe(**sections: object) -> Recipe:
    """Of a model that has no out-of-distribution detector, as it was not trained."""
    modalities: dict[str, object] = {"image": {}, "text": {}, "observations": {}}
    modalities |= {name: sections.pop(name) for name in list(sections) if name in modalities}
    return Recipe.from_mapping(
        {"name": "random", "modalities": modalities, "refer": {"out_of_distribution": None}} | sections
    )


def random_artifact(recipe: Recipe) -> Artifact:
    torch.manual_seed(recipe.seed)
    preprocessing = Preprocessing.fit(recipe, [study(number, 64) for number in range(50)])
    model, calibration = DiagnosisModel(recipe, FINDINGS, preprocessing).eval(), _calibration(recipe)
    references = References.answered(reference_studies(preprocessing), preprocessing, model, calibration)
    return Artifact(recipe, FINDINGS, preprocessing, model, calibration, {}, references=references)


def _calibration(recipe: Recipe) -> Calibration:
    rng = np.random.default_rng(recipe.seed)
    labels = (rng.random((200, len(FINDINGS))) < 0.4).astype(np.float32)

    def logits() -> np.ndarray:
        return rng.normal(2 * labels - 1, 1.5)

    return fit_calibration(
        FINDINGS,
        labels,
        np.array([f"p{number}" for number in range(len(labels))]),
        {subset_key(subset): logits() for subset in nonempty_subsets(recipe.modalities)},
        {modality: logits() for modality in recipe.modalities},
        present=dict.fromkeys(recipe.modalities, np.ones(len(labels), bool)),
        recipe=recipe.calibration,
        seed=recipe.seed,
        bootstrap=20,
    )


@contextmanager
def model_folder(given: Path | None, encoder: str, size: int) -> Iterator[Path]:
    """`given`, or a folder with a random model around the image encoder `encoder` that is gone afterwards."""
    if given is not None:
        yield given
        return
    recipe = random_recipe(image={"encoder": encoder, "size": size})
    with TemporaryDirectory(prefix="consilium-benchmark-") as folder:
        save_artifact(Path(folder) / "model", random_artifact(recipe))
        yield Path(folder) / "model"
