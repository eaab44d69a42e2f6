"""What is refused before a training, since its end could only be an error."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from consilium.configuration.recipe import Recipe
from consilium.domain.errors import InputError, TrainingError
from consilium.domain.variables import BUILT_IN, Kind, Variable
from consilium.modalities.observations.observation import Observation
from tests.training.cohorts_made import tiny_cohort, tiny_training_recipe
from training.cohorts.cohort import Cohort
from training.data.cached_cohort import CachedCohort, cache_cohort
from training.pipeline.preflight import require_folds, require_split

RECIPE = tiny_training_recipe(refer={"out_of_distribution": None})


def reading(*names: str) -> Recipe:
    """`RECIPE` for these modalities alone."""
    return RECIPE.model_copy(update={"modalities": {name: RECIPE.modalities[name] for name in names}})


SIZES = {"train": 30, "validation": 10, "calibration": 30, "test": 10}


@pytest.fixture(scope="module")
def cached(tmp_path_factory: pytest.TempPathFactory) -> CachedCohort:
    root = tmp_path_factory.mktemp("cohort")
    return cache_cohort(tiny_cohort(root / "in", sum(SIZES.values())), RECIPE, root / "cache")


def parts() -> dict[str, np.ndarray]:
    ends = np.cumsum(list(SIZES.values()))
    return dict(zip(SIZES, np.split(np.arange(ends[-1]), ends[:-1]), strict=True))


def without(cached: CachedCohort, lacks: str, rows: np.ndarray) -> CachedCohort:
    """The same cohort, in which the studies at `rows` have nothing of a modality."""
    studies = list(cached.studies)
    for row in rows.tolist():
        studies[row] = studies[row].with_parts(**{lacks: ()})
    return replace(cached, studies=tuple(studies))


def relabelled(cached: CachedCohort, rows: np.ndarray, label: float) -> CachedCohort:
    records = list(cached.cohort.records)
    for row in rows.tolist():
        records[row] = replace(records[row], labels=np.full(2, label, np.float32))
    return replace(cached, cohort=replace(cached.cohort, records=tuple(records)))


def test_a_sound_cohort_passes(cached: CachedCohort):
    require_split(cached, RECIPE, parts())


def test_variables_of_the_cohort_s_own_pass(cached: CachedCohort):
    sputum = Variable("sputum", "Sputum", Kind.CATEGORICAL, categories=("white", "purulent"))
    values = [Observation("sputum", "sputum", n % 2, n % 2, "", category=sputum.categories[n % 2]) for n in range(80)]
    studies = tuple(study.with_parts(observations=(values[n],)) for n, study in enumerate(cached.studies))
    cohort = replace(cached.cohort, variables=BUILT_IN.extended_with([sputum]))
    require_split(replace(cached, studies=studies, cohort=cohort), RECIPE, parts())


def test_an_image_recipe_needs_training_images(cached: CachedCohort):
    bare = without(cached, "image", np.arange(len(cached.studies)))
    with pytest.raises(TrainingError, match=r"none of \d+ training studies has an image .*: take image out of"):
        require_split(bare, RECIPE, parts())
    require_split(bare, reading("text", "observations"), parts())


@pytest.mark.parametrize("lacks", ["image", "text"])
def test_every_modality_needs_calibration_studies(cached: CachedCohort, lacks: str):
    with pytest.raises(TrainingError, match=rf"no calibration study with .*{lacks}.*nothing was trained: give more"):
        require_split(without(cached, lacks, parts()["calibration"]), RECIPE, parts())


def test_both_classes_must_be_left_to_calibrate_on(cached: CachedCohort):
    with pytest.raises(TrainingError, match=r"0 positive and 30 negative .*splits\.calibration \(30 studies\)"):
        require_split(relabelled(cached, parts()["calibration"], 0.0), RECIPE, parts())


@pytest.mark.parametrize("part", ["train", "validation"])
def test_labels_must_be_known(cached: CachedCohort, part: str):
    called = "training" if part == "train" else part
    with pytest.raises(TrainingError, match=f"the {called} split .*no readable study with a known label"):
        require_split(relabelled(cached, parts()[part], np.nan), RECIPE, parts())


def test_the_out_of_distribution_detector_needs_its_studies(cached: CachedCohort):
    few = without(cached, "image", parts()["train"][6:])
    with pytest.raises(
        TrainingError, match=r"training studies have image, at least 10 are needed; refer\.out_of_distribution null"
    ):
        require_split(few, tiny_training_recipe(), parts())


def test_a_test_split_must_be_readable(cached: CachedCohort):
    recipe = reading("image")
    with pytest.raises(
        TrainingError, match=r"the test split \(10 studies\) has no study .* give studies with an image"
    ):
        require_split(without(cached, "image", parts()["test"]), recipe, parts())


def test_the_oracle_must_know_the_test_studies(cached: CachedCohort):
    ids = np.array([record.study_id for record in cached.cohort.records[:-3]])
    oracle = SimpleNamespace(study_ids=ids, posteriors={})
    with pytest.raises(TrainingError, match="the oracle lacks 3 of 10 studies"):
        require_split(cached, RECIPE, parts(), oracle)


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"explain": {"image": "by_eye"}}, "explain.image: got 'by_eye'"),
        ({"explain": {"image": "gradient_attention"}}, "reads attention"),
        ({"refer": {"required": ["image"]}, "modalities": ["text"]}, "refer.required: got 'image'"),
    ],
)
def test_a_recipe_that_cannot_be_is_refused(cached: CachedCohort, section: dict, message: str):
    with pytest.raises(InputError, match=message):
        require_split(cached, tiny_training_recipe(**section), parts())


def test_every_fold_is_looked_at_before_the_first_is_trained(cached: CachedCohort):
    rows = np.arange(len(cached.studies))
    sides = [rows[rows % 2 == side] for side in (0, 1)]
    pairs = [(sides[1], sides[0]), (sides[0], sides[1])]
    inner = [(train, None) for train, _ in pairs]
    whole: Cohort = cached.cohort
    assert len(whole) == len(rows)
    mixed = relabelled(relabelled(cached, rows[::3], 1.0), rows[1::3], 0.0)
    require_folds(mixed, RECIPE, pairs, inner)
    with pytest.raises(TrainingError, match=r"0 positive and .*nothing was trained: give more studies or fewer folds"):
        require_folds(relabelled(mixed, sides[1], 0.0), RECIPE, pairs, inner)
    with pytest.raises(TrainingError, match="none of 40 training studies has a"):
        require_folds(without(mixed, "image", sides[0]), RECIPE, pairs, inner)
