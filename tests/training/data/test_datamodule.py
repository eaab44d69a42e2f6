from __future__ import annotations

import pickle
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import torch

from consilium.domain.errors import CohortError, InputError
from consilium.domain.variables import BUILT_IN, Variable, VariableTable
from consilium.modalities.image.image_record import ViewPosition
from consilium.modalities.observations.features import Feature
from consilium.modalities.observations.preparation import ObservationsPreparation
from consilium.preprocessing.collate import Preprocessing
from tests.training.cohorts_made import tiny_cohort, tiny_training_recipe
from training.cohorts.cohort import Cohort
from training.data.cached_cohort import CachedCohort, cache_cohort
from training.data.datamodule import EpochSampler, StudyDataModule, StudyDataset, study_loader

RECIPE = tiny_training_recipe()


@pytest.fixture(scope="module")
def cached(tmp_path_factory: pytest.TempPathFactory) -> CachedCohort:
    root = tmp_path_factory.mktemp("cohort")
    return cache_cohort(tiny_cohort(root / "in"), RECIPE, root / "cache")


@pytest.fixture(scope="module")
def preprocessing(cached: CachedCohort) -> Preprocessing:
    return Preprocessing.fit(RECIPE, cached.studies)


def every(cached: CachedCohort) -> np.ndarray:
    return np.arange(len(cached.cohort))


def test_batches_are_what_the_service_would_make(cached: CachedCohort, preprocessing: Preprocessing):
    dataset = StudyDataset(cached, preprocessing, every(cached))
    batch = next(iter(study_loader(dataset, preprocessing, RECIPE)))
    studies = []
    for row in range(RECIPE.training.batch_size):
        squares = [cached.array("image", image) for image in cached.studies[row].parts["image"]]
        studies.append(preprocessing.prepare(cached.studies[row], {"image": squares}))
    expected = preprocessing.collate(studies, cached.cohort.labels[: len(studies)])
    assert {name: set(tensors) for name, tensors in batch.inputs.items()} == {
        "image": {"images", "views", "mask"},
        "text": {"input_ids", "mask"},
        "observations": {"numbers", "codes", "mask"},
    }
    for modality, tensors in batch.inputs.items():
        for name, tensor in tensors.items():
            assert torch.equal(tensor, expected.inputs[modality][name]), (modality, name)
    assert torch.equal(batch.labels.isnan(), expected.labels.isnan())
    assert batch.inputs["image"]["images"].max() > 0.5


def test_present_is_what_each_study_has(cached: CachedCohort, preprocessing: Preprocessing):
    dataset = StudyDataset(cached, preprocessing, every(cached))
    images = [len(record.files["image"]) > 0 for record in cached.cohort.records]
    notes = [len(record.parts["text"]) > 0 for record in cached.cohort.records]
    assert dataset.present["image"].tolist() == images
    assert dataset.present["text"].tolist() == notes
    assert list(dataset.present) == ["image", "text", "observations"]
    assert not dataset.present["image"].all()


def test_an_image_file_that_cannot_be_read_is_a_problem_of_its_row(tmp_path: Path):
    cohort = tiny_cohort(tmp_path / "in", 6)
    row, record = next((row, record) for row, record in enumerate(cohort.records) if record.files["image"])
    record.files["image"][0].path.unlink()
    with pytest.raises(CohortError) as caught:
        cache_cohort(cohort, RECIPE, tmp_path / "cache")
    [problem] = caught.value.problems
    assert (problem.row, problem.column, problem.value) == (row + 2, "images", record.files["image"][0].path.name)
    assert problem.rule == "must be a file that can be read (No such file or directory)"


def test_an_image_that_cannot_be_decoded_leaves_its_study_with_a_warning(tmp_path: Path):
    cohort = tiny_cohort(tmp_path / "in", 12)
    broken = next(row for row, record in enumerate(cohort.records) if record.files["image"] and record.parts["text"])
    path = cohort.records[broken].files["image"][0].path
    path.write_bytes(path.read_bytes()[:300])
    cached = cache_cohort(cohort, RECIPE, tmp_path / "cache")
    assert list(cached.refused) == [path.name]
    assert cached.studies[broken].parts["image"] == ()
    assert any("left out" in warning for warning in cached.studies[broken].warnings)
    assert len(cached.studies) == len(cohort)


def test_a_study_with_nothing_left_is_left_out_and_counted(tmp_path: Path, preprocessing: Preprocessing):
    cohort = tiny_cohort(tmp_path / "in", 12)
    row = next(row for row, record in enumerate(cohort.records) if record.files["image"])
    only_image = replace(cohort.records[row], parts={}, patient=type(cohort.records[row].patient)())
    records = (*cohort.records[:row], only_image, *cohort.records[row + 1 :])
    only_image.files["image"][0].path.write_bytes(b"no image at all")
    cached = cache_cohort(replace(cohort, records=records), RECIPE, tmp_path / "cache")
    dataset = StudyDataset(cached, preprocessing, np.arange(12))
    assert dataset.left_out == 1
    assert row not in dataset.rows
    assert np.array_equal(np.isnan(dataset.labels), np.isnan(cohort.labels[dataset.rows]))


def test_what_the_cohort_knows_of_a_file_counts(tmp_path: Path):
    cohort = tiny_cohort(tmp_path / "in", 6)
    row = next(row for row, record in enumerate(cohort.records) if record.files["image"])
    when = datetime(2020, 2, 2, tzinfo=UTC)
    known = {"view": ViewPosition.LATERAL, "acquired": when}
    file = replace(cohort.records[row].files["image"][0], known=known)
    listed = replace(cohort.records[row], files={"image": (file,)})
    records = (*cohort.records[:row], listed, *cohort.records[row + 1 :])
    cached = cache_cohort(replace(cohort, records=records), RECIPE, tmp_path / "cache")
    assert cached.studies[row].parts["image"][0].view is ViewPosition.LATERAL
    assert cached.studies[row].parts["image"][0].acquired == when


def test_images_of_two_patients_in_one_study_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    cohort = tiny_cohort(tmp_path / "in", 6)
    first, second = [record for record in cohort.records if record.files["image"]][:2]
    mixed = replace(first, files={"image": first.files["image"] + second.files["image"]})
    cached = cache_cohort(cohort, RECIPE, tmp_path / "cache")
    for number, row in enumerate(cached.caches["image"]._store._rows.values()):
        row["facts"]["patient_digest"] = str(number)
    monkeypatch.setattr("training.data.cached_cohort.FileCache", lambda *_: cached.caches["image"])
    with pytest.raises(CohortError, match="must all be of one patient"):
        cache_cohort(replace(cohort, records=(mixed,)), RECIPE, tmp_path / "cache")


def test_without_images_nothing_is_decoded(tmp_path: Path):
    cohort: Cohort = tiny_cohort(tmp_path / "in", 6)
    recipe = tiny_training_recipe(modalities=["text", "observations"])
    cached = cache_cohort(cohort, recipe, tmp_path / "cache")
    assert cached.caches == {}
    assert all(study.parts["image"] == () for study in cached.studies)


def test_epochs_are_shuffled_by_seed_and_epoch_alone():
    one, other = EpochSampler(20, seed=1), EpochSampler(20, seed=2)
    first = list(one)
    assert first == list(one) != list(other)
    assert sorted(first) == list(range(20))
    one.set_epoch(1)
    assert list(one) != first
    one.set_epoch(0)
    assert list(one) == first


def test_several_processes_share_the_batches_of_one():
    one = list(EpochSampler(21, seed=1))
    shares = [EpochSampler(21, 1, 8, rank, 2) for rank in range(2)]
    assert [len(share) for share in shares] == [8, 8]
    dealt = [list(share) for share in shares]
    for start in (0, 4):
        batch = dealt[0][start : start + 4] + dealt[1][start : start + 4]
        assert batch == one[2 * start : 2 * start + 8]
    shares[0].set_epoch(1)
    assert list(shares[0]) != dealt[0]


def test_teachers_travel_with_their_studies(cached: CachedCohort, preprocessing: Preprocessing):
    train = StudyDataset(cached, preprocessing, np.arange(3, 19))
    studies, findings = cached.cohort.labels.shape
    logits = {
        "text": np.arange(studies * findings, dtype=np.float32).reshape(studies, findings),
        "image": np.full((studies, findings), np.nan, np.float32),
    }
    module = StudyDataModule(preprocessing, train, None, RECIPE, logits)
    plain = StudyDataModule(preprocessing, train, None, RECIPE)
    order = [train.rows[position] for position in EpochSampler(len(train), RECIPE.seed)]
    for number, (taught, batch) in enumerate(zip(module.train_dataloader(), plain.train_dataloader(), strict=True)):
        assert len(taught) == len(batch) == 8
        assert torch.equal(taught.batch.inputs["image"]["images"], batch.inputs["image"]["images"])
        moved = taught.to("cpu").teachers
        assert moved["text"].tolist() == logits["text"][order[8 * number : 8 * number + 8]].tolist()
        assert moved["image"].isnan().all()


def test_the_odd_rest_of_an_epoch_is_dropped_in_training_only(cached: CachedCohort, preprocessing: Preprocessing):
    train = StudyDataset(cached, preprocessing, np.arange(20))
    module = StudyDataModule(preprocessing, train, StudyDataset(cached, preprocessing, np.arange(20)), RECIPE)
    assert [len(batch) for batch in module.train_dataloader()] == [8, 8]
    assert [len(batch) for batch in module.val_dataloader()] == [8, 8, 4]


def test_a_loading_process_would_make_the_same_batches(cached: CachedCohort, preprocessing: Preprocessing):
    loader = study_loader(StudyDataset(cached, preprocessing, np.arange(10)), preprocessing, RECIPE)
    dataset, collate = pickle.loads(pickle.dumps((loader.dataset, loader.collate_fn)))
    for position, here in enumerate(loader):
        there = collate([dataset[row] for row in range(8 * position, min(10, 8 * position + 8))])
        assert torch.equal(here.inputs["image"]["images"], there.inputs["image"]["images"])
        assert torch.equal(here.inputs["text"]["input_ids"], there.inputs["text"]["input_ids"])


def test_a_cohort_that_means_something_else_by_a_variable_is_refused(tmp_path: Path) -> None:
    cached = cache_cohort(tiny_cohort(tmp_path / "cohort", 12), RECIPE, tmp_path / "cache")
    own = Variable("drain", "Drain output", unit="mL")
    theirs = VariableTable((*BUILT_IN.values(), replace(own, unit="L")))
    table = BUILT_IN.extended_with([own])
    reads = ObservationsPreparation([Feature("drain")], table)
    preprocessing = Preprocessing(RECIPE, {"observations": reads}, table)
    other = replace(cached, cohort=replace(cached.cohort, variables=theirs))
    with pytest.raises(InputError, match=r"cohort\.variables: got 'drain', .* another unit in this cohort"):
        StudyDataset(other, preprocessing, np.arange(12))
