"""Tiny studies, recipes and models that tests share."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import torch

from consilium.configuration.recipe import Recipe
from consilium.domain.findings import Finding, FindingSet
from consilium.domain.study import Patient, Sex, Study
from consilium.modalities.image.image_record import Image
from consilium.modalities.observations.observation import Observation
from consilium.modalities.registry import modality_names
from consilium.modalities.text.note import Note, NoteKind
from consilium.network.diagnosis_model import DiagnosisModel
from consilium.preprocessing.batch import Prepared
from consilium.preprocessing.collate import Preprocessing

NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)
FINDINGS = FindingSet((Finding("pneumonia", "Pneumonia"), Finding("effusion", "Effusion")))
THREE = ("image", "text", "observations")
"""The modalities that tests are made for, in their order; more are installed."""
ALL = frozenset(THREE)
WORDS = ["fever", "cough", "dyspnoea", "oedema", "wheeze", "chills", "sputum", "haemoptysis"]


TEXT = {"width": 16, "depth": 1, "heads": 2, "vocabulary": 200, "max_tokens": 32}
"""The text section of `tiny_recipe`."""


def tiny_recipe(**sections: object) -> Recipe:
    """The smallest recipe that trains; `sections` replace or add keys of its mapping.

    A section under a modality's name replaces that modality's; a list of names as `modalities` keeps these alone.
    """
    found: dict[str, object] = {
        "image": {"encoder": "resnet18", "size": 128, "width": 8},
        "text": TEXT,
        "observations": {"width": 8, "depth": 1},
    }
    found |= {name: sections.pop(name) for name in list(sections) if name in modality_names()}
    chosen = sections.pop("modalities", found)
    data: dict[str, object] = {
        "name": "tiny",
        "modalities": {name: found[name] for name in chosen} if isinstance(chosen, list) else chosen,
        "fusion": {"name": "concat", "width": 16, "depth": 1, "heads": 2},
    }
    return Recipe.from_mapping(data | sections)


def tiny_study(number: int, modalities: frozenset[str] = ALL) -> Study:
    """A study of its own for every `number`, with the modalities asked for."""
    rng = np.random.default_rng(number)
    image = Image(rng.integers(0, 65536, (96, 128), dtype=np.uint16), f"{number:064x}", "png", acquired=NOON)
    note = Note(NoteKind.HISTORY, " ".join(rng.choice(WORDS, 5)), NOON - timedelta(hours=2))
    crp = float(rng.lognormal(3))
    observation = Observation("crp", "1988-5", crp, crp, "mg/L", NOON - timedelta(hours=1))
    has_values = "observations" in modalities
    return Study(
        {
            "image": (image,) if "image" in modalities else (),
            "text": (note,) if "text" in modalities else (),
            "observations": (observation,) if has_values else (),
        },
        patient=Patient(float(20 + number % 60), Sex.FEMALE if number % 2 else Sex.MALE) if has_values else Patient(),
        reference_time=NOON,
        study_id=f"s{number}",
        patient_id=f"p{number}",
    )


def squares_of(prepared: Prepared) -> np.ndarray:
    """The model's view of the images of `prepared`, uint16 [V, S, S]."""
    return np.asarray(prepared.parts["image"].arrays["images"])


def pieces_of(prepared: Prepared) -> list[int]:
    """The word pieces of the notes of `prepared`."""
    ids: list[int] = prepared.parts["text"].arrays["input_ids"].tolist()
    return ids


def numbers_of(prepared: Prepared) -> np.ndarray:
    """The standardised values of `prepared`, float32 [A]."""
    return np.asarray(prepared.parts["observations"].arrays["numbers"])


def tiny_preprocessing(recipe: Recipe) -> Preprocessing:
    return Preprocessing.fit(recipe, [tiny_study(number) for number in range(30)])


def tiny_model(recipe: Recipe, preprocessing: Preprocessing, seed: int = 0) -> DiagnosisModel:
    torch.manual_seed(seed)
    return DiagnosisModel(recipe, FINDINGS, preprocessing).eval()
