"""Cases that the tests of explanations share."""

from __future__ import annotations

import numpy as np

from consilium.artifacts.artifact import Artifact
from consilium.domain.study import Patient, Sex, Study
from consilium.explain.case import Case
from consilium.explain.explainer import units_of
from consilium.explain.methods import explanations
from consilium.modalities.observations.observation import Observation
from consilium.modalities.text.note import Note, NoteKind
from tests.consilium.tiny import NOON, tiny_study

BOTH = [0, 1]


def case_of(artifact: Artifact, study: Study) -> Case:
    """`study` before `artifact`'s model, with all watched that any method reads."""
    model = artifact.model.eval()
    declared = explanations(artifact.recipe.modalities).values()
    suited = [method for one in declared for method in one.methods if method.suits(artifact.preprocessing)]
    watched = {module for method in suited for module in method.watches(model)}
    prepared = artifact.preprocessing.prepare(study)
    units = units_of(prepared, artifact.preprocessing)
    return Case.of(model, artifact.preprocessing, artifact.calibration, prepared, list(watched), units)


def words_study(text: str) -> Study:
    return Study({"text": (Note(NoteKind.HISTORY, text, NOON),)})


def values_study(number: int, *, everything: bool = True) -> Study:
    """Age, sex and CRP; or CRP alone."""
    rng = np.random.default_rng(number)
    crp = float(rng.lognormal(3))
    observation = Observation("crp", "1988-5", crp, crp, "mg/L", NOON)
    return Study(
        {"text": tiny_study(number).parts["text"], "observations": (observation,)},
        patient=Patient(70.0, Sex.MALE) if everything else Patient(),
        reference_time=NOON,
    )
