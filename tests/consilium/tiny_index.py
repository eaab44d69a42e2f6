"""A tiny search index and its encoders, as folders."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from consilium.artifacts.pretrained_encoders import PretrainedEncoders, save_encoders
from consilium.explain.similar_cases import Neighbours, pseudonym
from consilium.explain.vector_index import VectorIndex
from consilium.inference.search_index import SearchIndex, joint_places, unique_sentences
from consilium.network.aligned_encoders import AlignedEncoders
from tests.consilium.tiny import FINDINGS, tiny_preprocessing, tiny_recipe, tiny_study

STUDIES = [tiny_study(number) for number in range(12)]
"""The cases: every second one has the first finding; of the second nothing is known."""
COHORT = "0" * 64


def case(number: int) -> str:
    """The pseudonym of a case."""
    return pseudonym(COHORT, f"s{number}")


def write_tiny_index(place: Path) -> tuple[Path, str]:
    """Encoders of random weights and an index by them, below `place`: its folder and its digest."""
    recipe = tiny_recipe(name="encoders-tiny", pretraining={"objectives": {"clip": 1.0}, "width": 8})
    preprocessing = tiny_preprocessing(recipe)
    torch.manual_seed(3)
    model = AlignedEncoders(recipe, preprocessing).eval()
    encoders = PretrainedEncoders(recipe, preprocessing, model, {"verdict": "sound"}, {}, "# Card\n")
    digest = save_encoders(place / "encoders", encoders)
    with torch.inference_mode():
        tokens = model.encode(preprocessing.collate([preprocessing.prepare(study) for study in STUDIES]))
        places = {name: own.numpy() for name, own in model.places(tokens).items()}
    cases = Neighbours.fit(
        joint_places(places),
        np.array([[number % 2, np.nan] for number in range(len(STUDIES))]),
        dict.fromkeys(recipe.modalities, np.ones(len(STUDIES), bool)),
        [study.study_id for study in STUDIES],
        COHORT,
        FINDINGS,
    )
    written = [(number, study.parts["text"][0].text) for number, study in enumerate(STUDIES)]
    sentences, owners = unique_sentences(written)
    index = SearchIndex(cases, sentences, VectorIndex(places["text"]), owners, str(place / "encoders"), digest)
    return place / "index", index.save(place / "index")
