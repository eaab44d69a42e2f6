"""Reference studies for an artifact: made up, so that they fit what the model reads and are nobody's.

They are the phantom's, whatever the cohort. Every subset of the model's modalities that the phantom can render occurs.
The same recipe and preprocessing give the same bytes.
"""

from __future__ import annotations

from consilium.api.schemas import DiagnoseRequest
from consilium.artifacts.reference_studies import ReferenceStudy
from consilium.configuration.recipe import Recipe
from consilium.domain.errors import TrainingError
from consilium.modalities.registry import in_order, nonempty_subsets
from consilium.preprocessing.collate import Preprocessing
from training.cohorts.phantom.phantom_modality import Asked, Sent
from training.cohorts.phantom.record import Design, Shift, draw_study
from training.cohorts.phantom.renderers import DEFAULT_MODALITIES, phantom_modalities

LEAST = 16
"""Studies; more where that makes every subset occur equally often."""
_SEED = 20_240_501
_SIZE = 64
"""Rows of a phantom's images, which are rendered here as large as the model reads them."""


def rendered_modalities(recipe: Recipe) -> list[str]:
    """Those of `recipe` that a phantom renders; without one a model has no reference studies.

    Raises
    ------
    TrainingError
        Where there is none.
    """
    rendered = [modality for modality in recipe.modalities if modality in phantom_modalities()]
    if not rendered:
        raise TrainingError(
            f"no phantom renders {' or '.join(recipe.modalities)}: the studies that a model is tried with when it is "
            "loaded cannot be made; register one under the entry point group consilium.phantoms"
        )
    return rendered


def reference_studies(preprocessing: Preprocessing) -> tuple[ReferenceStudy, ...]:
    """Studies for the model that reads with `preprocessing`.

    Raises
    ------
    TrainingError
        Where the phantom can render none of the model's modalities.
    """
    rendered = rendered_modalities(preprocessing.recipe)
    subsets = nonempty_subsets(rendered)
    drawn_modalities = in_order([*DEFAULT_MODALITIES, *rendered])
    # Whatever a modality's rate of absence, here the subset decides.
    always = Shift(missing_modality=dict.fromkeys(drawn_modalities, 0.0))
    design = Design(_SEED, _SIZE, shift=always, modalities=drawn_modalities)
    states, model = design.states(), design.evidence()
    studies = []
    for number in range(-(-LEAST // len(subsets)) * len(subsets)):
        asked = Asked(preprocessing, design, draw_study(design, number, states, model), number // len(subsets))
        subset = in_order(subsets[number % len(subsets)])
        studies.append(_study([model.phantoms[modality].request(asked) for modality in subset]))
    return tuple(studies)


def _study(sent: list[Sent]) -> ReferenceStudy:
    fields = {name: value for part in sent for name, value in part.fields.items()}
    files = {name: contents for part in sent for name, contents in part.files.items()}
    return ReferenceStudy(DiagnoseRequest.model_validate(fields), files)
