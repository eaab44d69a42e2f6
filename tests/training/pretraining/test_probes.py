"""Zero-shot and few-shot on embeddings made by hand."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from consilium.domain.errors import InputError
from consilium.network.aligned_encoders import AlignedEncoders
from consilium.preprocessing.collate import Preprocessing
from tests.consilium.tiny import FINDINGS, tiny_recipe, tiny_study
from training.cohorts.cohort import Prompts
from training.evaluation.comparisons import MACRO
from training.pretraining.embeddings import Embeddings
from training.pretraining.few_shot import LINEAR, PROTOTYPES, few_shot, label_efficiency
from training.pretraining.zero_shot import Asked, ask, zero_shot

STUDIES = 400
PROMPTS = {"pneumonia": Prompts(("fever and cough", "sputum"), ("no fever",))}


def made_cohort(seed: int = 0) -> tuple[Any, np.ndarray]:
    """Labels of two findings, and places on a circle: the first finding shows in the first direction."""
    rng = np.random.default_rng(seed)
    labels = (rng.random((STUDIES, 2)) < 0.4).astype(np.float32)
    places = rng.normal(0, 0.5, (STUDIES, 4)).astype(np.float32)
    places[:, :2] += 2 * labels - 1
    places /= np.linalg.norm(places, axis=1, keepdims=True)
    records = [SimpleNamespace(study_id=f"s{n}", patient_id=f"p{n}") for n in range(STUDIES)]
    patients = np.array([one.patient_id for one in records])
    cohort = SimpleNamespace(labels=labels, findings=FINDINGS, records=records, patient_ids=patients)
    return cohort, places


def embedded(places: np.ndarray, rows: np.ndarray, lacking: int = 0) -> Embeddings:
    chosen = places[rows].copy()
    chosen[:lacking] = np.nan
    return Embeddings(rows, {"image": chosen}, {"image": np.concatenate([chosen, chosen], axis=1)})


def parts(places: np.ndarray, lacking: int = 0) -> tuple[Embeddings, Embeddings]:
    return embedded(places, np.arange(200)), embedded(places, np.arange(200, 400), lacking)


def test_zero_shot_scores_by_the_direction_of_the_words() -> None:
    cohort, places = made_cohort()
    calibration, test = parts(places, lacking=20)
    right = {"pneumonia": np.array([1, 0, 0, 0], np.float32), "effusion": np.array([0, -1, 0, 0], np.float32)}
    oracle = SimpleNamespace(
        study_ids=[one.study_id for one in cohort.records], posteriors={"image": cohort.labels * 0.8 + 0.1}
    )
    table = zero_shot(Asked(right, "text"), cohort, test, calibration, oracle, bootstrap=20, seed=0)
    table = table.set_index("finding")
    assert table.loc["pneumonia", "auroc"] > 0.95
    assert table.loc["effusion", "auroc"] < 0.05  # asked the wrong way round
    assert table.loc["pneumonia", "n"] == 180
    assert table.loc["pneumonia", "possible_auroc"] == 1
    assert table.loc["pneumonia", "share"] == pytest.approx(2 * table.loc["pneumonia", "auroc"] - 1)
    assert table.loc[MACRO, "auroc"] == pytest.approx(table["auroc"].iloc[:2].mean())
    # A logistic fit turns the wrong direction round, and gives frequencies.
    assert table.loc["effusion", "nll"] < 0.4
    assert table.loc["pneumonia", "ece"] < 0.12


def test_zero_shot_without_calibration_has_no_probabilities() -> None:
    cohort, places = made_cohort()
    _, test = parts(places)
    asked = Asked({"pneumonia": np.array([1, 0, 0, 0], np.float32)}, "text")
    table = zero_shot(asked, cohort, test, None, None, bootstrap=20, seed=0)
    assert table["finding"].tolist() == ["pneumonia"]
    assert "nll" not in table
    assert "possible_auroc" not in table


def test_few_shot_learns_from_more_and_draws_the_same_again() -> None:
    cohort, places = made_cohort()
    train, test = parts(places)
    table = few_shot(cohort, train, test, None, seed=3)
    means = table[table["finding"] == MACRO].set_index(["method", "shots"])["auroc"]
    for method in (LINEAR, PROTOTYPES):
        assert means[method][64] > 0.93
        assert means[method][64] > means[method][1]
    assert table.equals(few_shot(cohort, train, test, None, seed=3))
    assert set(table["shots"]) == {1, 2, 4, 8, 16, 32, 64}


def test_labels_as_they_come_are_at_most_those_that_there_are() -> None:
    cohort, places = made_cohort()
    train, test = parts(places)
    table = label_efficiency(cohort, train, test, None, seed=3)
    assert set(table["labelled"]) == {30, 100}
    assert table[(table["finding"] == MACRO) & (table["labelled"] == 100)]["auroc"].min() > 0.93


def test_a_finding_of_one_class_is_not_measured() -> None:
    cohort, places = made_cohort()
    cohort.labels[200:, 1] = 0
    train, test = parts(places)
    assert set(few_shot(cohort, train, test, None, seed=3)["finding"]) == {"pneumonia", MACRO}


@pytest.fixture(scope="module")
def encoders() -> tuple[AlignedEncoders, Preprocessing]:
    recipe = tiny_recipe()
    preprocessing = Preprocessing.fit(recipe, [tiny_study(number) for number in range(12)])
    return AlignedEncoders(recipe, preprocessing).eval(), preprocessing


def test_asking_turns_the_direction_where_the_sentences_are_exchanged(
    encoders: tuple[AlignedEncoders, Preprocessing],
) -> None:
    turned = {name: Prompts(prompt.absent, prompt.present) for name, prompt in PROMPTS.items()}
    there, back = (ask(*encoders, prompts) for prompts in (PROMPTS, turned))
    assert there.words == "text"
    assert there.directions["pneumonia"].any()
    assert np.allclose(there.directions["pneumonia"], -back.directions["pneumonia"])


def test_without_prompts_nothing_can_be_asked(encoders: tuple[AlignedEncoders, Preprocessing]) -> None:
    with pytest.raises(InputError, match=r"cohort\.yaml: prompts"):
        ask(*encoders, {})


def test_encoders_without_words_cannot_be_asked() -> None:
    recipe = tiny_recipe(modalities=["image", "observations"])
    preprocessing = Preprocessing.fit(recipe, [tiny_study(number) for number in range(12)])
    with pytest.raises(InputError, match="must read a modality that holds words"):
        ask(AlignedEncoders(recipe, preprocessing), preprocessing, PROMPTS)
