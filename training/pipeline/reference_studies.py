"""Reference studies for an artifact: made up, so that they fit what the model reads and are nobody's.

Radiographs and notes are those of the phantom, whatever the cohort; values are drawn around the means that the model
scales with. Every subset of the model's modalities occurs, and so do a second view, missing values and each kind of
note. The same recipe and scaling give the same bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from io import BytesIO

import numpy as np
import numpy.typing as npt
from PIL import Image as Picture

from consilium.api.schemas import DiagnoseRequest
from consilium.artifacts.reference_studies import ReferenceStudy
from consilium.domain.variables import BUILT_IN, Variable
from consilium.modalities.observations.features import DEMOGRAPHICS, Aspect, Feature
from consilium.modalities.registry import nonempty_subsets
from consilium.modalities.text.note import NoteKind
from consilium.preprocessing.collate import Preprocessing
from training.cohorts.phantom.image.dictation import render_report
from training.cohorts.phantom.image.radiograph import render_radiograph
from training.cohorts.phantom.record import Design, Drawn, Shift, draw_study, stream
from training.cohorts.phantom.renderers import DEFAULT_MODALITIES
from training.cohorts.phantom.state import FINDINGS
from training.cohorts.phantom.text.note import render_note

LEAST = 16
"""Studies; more where that makes every subset occur equally often."""
_SEED = 20_240_501
_SIDES = (64, 160)
"""Least and most rows of an image: a larger one adds bytes, and nothing that these studies are to show."""
_SIGNIFICANT = 4
_LIMITS = 0.2
"""Share of the values that are sent as limits, where training studies had some."""
_MOMENT = datetime(2024, 5, 1, 12, tzinfo=UTC)
"""Reference time, where a model looks at times."""


def reference_studies(preprocessing: Preprocessing) -> tuple[ReferenceStudy, ...]:
    """Studies for the model that reads with `preprocessing`."""
    recipe = preprocessing.recipe
    subsets = nonempty_subsets(recipe.modalities)
    side = int(np.clip(recipe.image.size, *_SIDES))
    # Whatever a modality's rate of absence, here the subset decides.
    design = Design(_SEED, side, shift=Shift(missing_modality=dict.fromkeys(DEFAULT_MODALITIES, 0.0)))
    states, evidence = design.states(), design.evidence()
    studies = []
    for number in range(-(-LEAST // len(subsets)) * len(subsets)):
        drawn = draw_study(design, number, states, evidence)
        subset, rng = subsets[number % len(subsets)], stream(design, number, "record")
        records: dict[str, object] = {}
        if "text" in subset:
            records["notes"] = _notes(design, drawn, recipe.inputs.note_kinds)
        if "observations" in subset:
            records |= _values(preprocessing, rng, stream(design, number, "values"))
        images = _images(design, drawn, 1 + number // len(subsets) % 2) if "image" in subset else ()
        studies.append(ReferenceStudy(DiagnoseRequest.model_validate(records), images))
    return tuple(studies)


def _images(design: Design, drawn: Drawn, views: int) -> tuple[bytes, ...]:
    rng = stream(design, drawn.index, "image")
    return tuple(
        _png(render_radiograph(drawn.evidence.parts["image"], rng, design.size, drawn.site).pixels)
        for _ in range(views)
    )


def _png(pixels: npt.NDArray[np.uint16]) -> bytes:
    """The 12-bit `pixels` with the 8 bits that a small file has room for."""
    file = BytesIO()
    Picture.fromarray((pixels >> 4).astype(np.uint8)).save(file, "PNG")
    return file.getvalue()


def _notes(design: Design, drawn: Drawn, kinds: Sequence[NoteKind]) -> list[dict[str, str]]:
    note = render_note(drawn.evidence.parts["text"], stream(design, drawn.index, "note"), drawn.site)
    chances = [float(drawn.state.labels[name]) for name in FINDINGS]
    findings, impression = render_report(drawn.evidence.parts["image"], chances, stream(design, drawn.index, "report"))
    texts = {
        NoteKind.HISTORY: note.history,
        NoteKind.INDICATION: note.indication,
        NoteKind.FINDINGS: findings,
        NoteKind.IMPRESSION: impression,
    }
    return [{"kind": kind.value, "text": texts[kind]} for kind in kinds]


def _values(preprocessing: Preprocessing, rng: np.random.Generator, more: np.random.Generator) -> dict[str, object]:
    """Observations and patient: each value with two chances of three, and of the variables at least one.

    What is no plain number is drawn from `more`: categories, limits, and earlier values where the model reads them.
    """
    features = [feature for feature in preprocessing.features if feature.aspect is Aspect.VALUE]
    there = rng.random(len(features)) < 2 / 3
    variables = [place for place, feature in enumerate(features) if feature.name not in DEMOGRAPHICS]
    there[variables[int(rng.integers(len(variables)))] if variables else 0] = True
    # Ingest takes no study of age and sex alone: a model of nothing else is asked with a value that it leaves out.
    observations = [] if variables else [_observation(BUILT_IN["crp"], 5.0)]
    patient: dict[str, object] = {}
    for feature, is_there, draw in zip(features, there.tolist(), rng.normal(size=len(features)).tolist(), strict=True):
        if not is_there:
            continue
        if feature.name == "sex":
            patient["sex"] = "F" if draw > 0 else "M"
        elif feature.name == "age":
            patient["age"] = float(np.clip(round(feature.unscale(draw)), 0, 110))
        else:
            observations += _observations(preprocessing, feature, draw, more)
    timed = {"reference_time": _MOMENT.isoformat()} if preprocessing.recipe.observations.history > 1 else {}
    return {"observations": observations, "patient": patient or None, **timed}


def _observations(
    preprocessing: Preprocessing, feature: Feature, draw: float, rng: np.random.Generator
) -> list[dict[str, object]]:
    """The value of `feature` that `draw` standard deviations lead to; with its history, one before it as well."""
    variable = preprocessing.variables[feature.variable]
    if preprocessing.recipe.observations.history < 2:
        return [_drawn(variable, feature, draw, rng)]
    window = preprocessing.recipe.inputs.before_hours
    hours = sorted((rng.random(2) * window).tolist(), reverse=True)
    return [
        _drawn(variable, feature, number, rng) | {"time": (_MOMENT - timedelta(hours=round(ago, 1))).isoformat()}
        for ago, number in zip(hours, (float(rng.normal()), draw), strict=True)
    ]


def _drawn(variable: Variable, feature: Feature, draw: float, rng: np.random.Generator) -> dict[str, object]:
    if feature.categorical:
        return {"code": variable.code, "value": str(rng.choice(feature.codes)), "unit": ""}
    observation = _observation(variable, feature.unscale(draw))
    if feature.codes and rng.random() < _LIMITS:
        observation["value"] = f"{rng.choice(feature.codes)}{observation['value']}"
    return observation


def _observation(variable: Variable, value: float) -> dict[str, object]:
    plausible = float(np.clip(value, variable.plausible_low, variable.plausible_high))
    return {"code": variable.code, "value": float(f"{plausible:.{_SIGNIFICANT}g}"), "unit": variable.unit}
