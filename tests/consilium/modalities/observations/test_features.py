"""Inputs of the observation encoder: numbers, categories, limits and the course of values."""

from dataclasses import asdict, replace
from datetime import datetime, timedelta

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from consilium.domain.study import Patient, Study
from consilium.domain.variables import BUILT_IN, Code, Kind, Variable
from consilium.formats.quantities import Comparator
from consilium.modalities.observations.encoder import ObservationsEncoder
from consilium.modalities.observations.features import (
    Aspect,
    Course,
    Feature,
    Reading,
    courses,
    demographic,
    fit_features,
)
from consilium.modalities.observations.observation import Observation
from consilium.modalities.observations.section import ObservationsSection
from consilium.preprocessing.collate import Preprocessing
from tests.consilium.tiny import NOON, numbers_of, tiny_recipe

OWN = (
    Variable("drain", "Drain output", unit="mL", reference=(0.0, 100.0), codes=(Code("drain", "drain", unit="mL"),)),
    Variable("rhythm", "Rhythm", Kind.CATEGORICAL, categories=("sinus", "flutter", "paced")),
    Variable("ketones", "Ketones", Kind.CATEGORICAL, categories=("negative", "trace", "1+", "2+"), ordered=True),
    Variable("ventilated", "Ventilated", Kind.YES_NO, categories=("no", "yes")),
)
TABLE = BUILT_IN.extended_with(OWN)


def number(value: float, hours: float | None = 1, comparator: Comparator | None = None) -> Observation:
    return Observation("drain", "drain", value, value, "mL", _ago(hours), comparator=comparator)


def category(name: str, value: str, hours: float | None = 1) -> Observation:
    place = float(TABLE[name].categories.index(value))
    return Observation(name, name, place, place, "", _ago(hours), category=value)


def _ago(hours: float | None) -> datetime | None:
    return None if hours is None else NOON - timedelta(hours=hours)


def study(*observations: Observation) -> Study:
    return Study({"observations": observations}, patient=Patient(50), reference_time=NOON)


def aged_study(age: float, *observations: Observation) -> Study:
    return replace(study(*observations), patient=Patient(age))


def fitted(studies: list[Study], history: int = 1) -> dict[str, Feature]:
    return {feature.name: feature for feature in fit_features(studies, TABLE, history)}


def mixed_studies() -> list[Study]:
    """12 studies: drain 0, 10, ..., of which the first three only below a limit; rhythm sinus but for three."""
    return [
        aged_study(
            50.0 + n,
            number(10.0 * n, comparator=Comparator.BELOW if n < 3 else None),
            category("rhythm", "flutter" if n < 3 else "sinus"),
            category("ketones", ("negative", "trace", "2+")[n % 3]),
            category("ventilated", "yes" if n < 9 else "no"),
        )
        for n in range(12)
    ]


def test_each_kind_of_variable_is_a_feature_of_its_kind() -> None:
    features = fitted(mixed_studies())
    assert list(features) == ["age", "drain", "ketones", "rhythm", "ventilated"]
    drain, ketones, rhythm = features["drain"], features["ketones"], features["rhythm"]
    assert (drain.codes, drain.shares, drain.categorical) == (("<",), (0.25,), False)
    assert (drain.mean, drain.sd) == (55.0, pytest.approx(np.std(np.arange(12) * 10.0)))
    assert (rhythm.codes, rhythm.shares, rhythm.has_number) == (("sinus", "flutter"), (0.75, 0.25), False)
    assert ketones.codes == ("negative", "trace", "2+")
    assert ketones.mean == pytest.approx((0 + 1 + 3) / 3)
    assert features["ventilated"].codes == ("no", "yes")


def test_a_limit_is_read_at_the_limit_with_a_code_of_its_own() -> None:
    drain = fitted(mixed_studies())["drain"]
    plain, below, above = (
        drain.read(Course(number(30.0, comparator=c)), NOON) for c in (None, Comparator.AT_MOST, Comparator.ABOVE)
    )
    assert plain == Reading(drain.scale(30.0), 0)
    assert below == Reading(drain.scale(30.0), 1)
    assert above == plain  # no training study had one


def test_categories_are_codes_and_ordinal_ones_numbers_as_well() -> None:
    features = fitted(mixed_studies())
    assert features["rhythm"].read(Course(category("rhythm", "flutter")), NOON) == Reading(0.0, 2)
    ketones = features["ketones"]
    read = ketones.read(Course(category("ketones", "2+")), NOON)
    assert read == Reading(pytest.approx((3 - ketones.mean) / ketones.sd), 3)
    for unseen in (category("rhythm", "paced"), category("ketones", "1+")):
        assert features[unseen.variable].read(Course(unseen), NOON) is None


def test_the_course_is_the_last_value_and_the_one_before_it() -> None:
    early, late, untimed = number(1, 5), number(2, 2), number(3, None)
    again = replace(late, value=7.0)
    spoilt = replace(number(4, 1), implausible=True)
    assert courses([late, untimed, early]) == {"drain": Course(late, early)}
    assert courses([early, late, again, spoilt]) == {"drain": Course(again, early)}
    assert courses([late, untimed]) == {"drain": Course(late)}


def test_history_is_the_age_and_the_change_per_day() -> None:
    rhythms = ["sinus", "paced"] * 6
    studies = [
        aged_study(n, number(100.0, 13 + n % 2), number(100.0 + n, 1 + n % 2), category("rhythm", rhythms[n], n))
        for n in range(12)
    ]
    features = fitted(studies, history=2)
    assert [*features][3:] == ["drain:age", "drain:change", "rhythm:age"]
    age, change = features["drain:age"], features["drain:change"]
    assert age.mean == pytest.approx((np.log1p(1) + np.log1p(2)) / 2)
    assert change.mean == pytest.approx(11.0)  # n of 0 to 11 in half a day: on average 5.5, so 11 a day
    course = courses(studies[8].parts["observations"])["drain"]
    assert change.raw(course, NOON) == pytest.approx(16.0)
    assert change.read(Course(number(5, 1), replace(number(1, 9), comparator=Comparator.BELOW)), NOON) is None
    assert change.read(Course(number(5, 1)), NOON) is None
    assert age.read(Course(number(5, None)), NOON) is None
    assert age.read(course, None) is None
    assert list(fitted(studies)) == ["age", "drain", "rhythm"]


def test_what_is_the_same_in_every_training_study_is_not_read() -> None:
    """How far another number is from the only one, and what another category means, was never seen."""
    same = [study(number(7.0, 3), category("rhythm", "sinus"), category("ketones", "trace")) for _ in range(12)]
    assert fitted(same, history=2) == {}
    varied = [study(number(7.0 + n, 3), category("rhythm", "sinus")) for n in range(12)]
    assert list(fitted(varied, history=2)) == ["drain"]  # always three hours old


def test_a_number_that_is_the_same_in_every_training_study_is_not_read_beside_a_limit_that_differs() -> None:
    sides = [Comparator.BELOW, None]
    drain = fitted([study(number(7.0, comparator=sides[n % 2])) for n in range(12)])["drain"]
    for value in (7.0, 7.1, 900.0):
        assert drain.read(Course(number(value)), NOON) == Reading(0.0, 0)
        assert drain.read(Course(number(value, comparator=Comparator.BELOW)), NOON) == Reading(0.0, 1)
    assert drain.unscale(0.0) == 7.0


def test_values_close_together_are_compared_as_if_six_hours_apart() -> None:
    change = Feature("drain", aspect=Aspect.CHANGE)
    assert change.raw(Course(number(103.0, 1), number(100.0, 1.5)), NOON) == pytest.approx(3.0 * 4)


def test_change_on_a_logarithmic_scale_is_a_ratio() -> None:
    crp = Feature("crp", floor=0.05, aspect=Aspect.CHANGE)
    last, before = (Observation("crp", "1988-5", v, v, "mg/L", _ago(h)) for v, h in ((80.0, 0), (20.0, 48)))
    assert crp.raw(Course(last, before), NOON) == pytest.approx(np.log(4) / 2)


@settings(max_examples=30, deadline=None)
@given(st.floats(-1e6, 1e6), st.sampled_from([*Comparator, None]))
def test_the_number_of_a_limit_is_that_of_its_value(value: float, comparator: Comparator | None) -> None:
    drain = Feature("drain", 55.0, 34.5, codes=("<", ">"), shares=(0.1, 0.1))
    read = drain.read(Course(number(value, comparator=comparator)), NOON)
    assert read is not None
    assert read.number == drain.scale(value)
    assert read.code == {None: 0, "<": 1, ">": 2}[comparator and comparator.value[0]]
    if abs(read.number) < 6:
        assert drain.unscale(read.number) == pytest.approx(value, rel=1e-9, abs=1e-6)


def test_features_come_back_from_json() -> None:
    for feature in fit_features(mixed_studies(), TABLE, 2):
        assert Feature.from_json(asdict(feature)) == feature


# --- as the model reads them -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def preprocessing() -> Preprocessing:
    return Preprocessing.fit(tiny_recipe(modalities=["observations"]), mixed_studies(), TABLE)


@pytest.fixture(scope="module")
def encoder(preprocessing: Preprocessing) -> ObservationsEncoder:
    torch.manual_seed(0)
    features = preprocessing.preparations["observations"].features
    return ObservationsEncoder(ObservationsSection(width=8), features, 16, 2, 0.0).eval()


def test_what_is_not_read_is_warned_of(preprocessing: Preprocessing) -> None:
    asked = study(
        number(30, comparator=Comparator.ABOVE),
        category("rhythm", "paced"),
        category("ventilated", "no"),
        Observation("sodium", "2951-2", 140, 140, "mmol/L", NOON),
    )
    prepared = preprocessing.prepare(asked)
    assert np.isfinite(numbers_of(prepared)).tolist() == [True, True, False, False, True]
    assert prepared.warnings == (
        "observation not read by this model: Sodium",
        "Drain output >30: read as the limit itself, since no training study of this model had such a value",
        "observation left out: Rhythm paced, no training study of this model had this category",
    )


@pytest.mark.parametrize(("hours", "when"), [(1, "of one time"), (None, "without a time")])
def test_values_of_one_time_that_differ_are_warned_of(
    preprocessing: Preprocessing, hours: float | None, when: str
) -> None:
    expected = f"Drain output: values {when} differ, the last one that was sent is read, "
    limit = number(30, hours, Comparator.BELOW)
    assert expected + "30" in preprocessing.prepare(study(number(12, hours), number(30, hours))).warnings
    assert expected + "<30" in preprocessing.prepare(study(number(30, hours), limit)).warnings
    for alike in (
        [number(30, hours), number(30.2, hours)],  # rounded in two units
        [number(12, 5), number(30, hours or 1)],
        [replace(number(12, hours), implausible=True), number(30, hours)],
    ):
        assert not any("differ" in warning for warning in preprocessing.prepare(study(*alike)).warnings)


def test_a_newer_unknown_category_does_not_make_way_for_an_older_one(preprocessing: Preprocessing) -> None:
    prepared = preprocessing.prepare(study(number(30), category("rhythm", "sinus", 5), category("rhythm", "paced", 1)))
    names = [feature.name for feature in preprocessing.preparations["observations"].features]
    assert not np.isfinite(numbers_of(prepared)[names.index("rhythm")])


def test_the_number_of_a_category_without_an_order_says_nothing(encoder: ObservationsEncoder) -> None:
    numbers, codes = torch.randn(1, 5), torch.tensor([[0, 1, 2, 1, 2]])
    moved = numbers + torch.tensor([0.0, 0.0, 0.0, 3.0, 3.0])
    assert torch.equal(encoder.values(numbers, codes), encoder.values(moved, codes))


def test_categories_have_vectors_of_their_own_and_limits_begin_as_numbers(encoder: ObservationsEncoder) -> None:
    numbers = torch.zeros(3, 5)
    found = encoder.values(numbers, torch.tensor([[0, 0, 1, 1, 1], [0, 1, 2, 2, 2], [0, 0, 3, 1, 1]])).detach()
    age, drain, ketones, rhythm, ventilated = found.unbind(1)
    assert torch.equal(age[0], age[1])
    assert torch.equal(drain[0], drain[1])
    for rows in (ketones, rhythm[:2], ventilated[:2]):
        assert len(torch.unique(rows, dim=0)) == len(rows)


def test_the_average_patient_has_every_category_by_its_share(
    preprocessing: Preprocessing, encoder: ObservationsEncoder
) -> None:
    each = encoder.values(torch.zeros(2, 5), torch.tensor([[0, 0, 1, 1, 1], [0, 0, 1, 2, 2]]))[:, 3]
    assert preprocessing.preparations["observations"].features[3].shares == (0.75, 0.25)
    expected = 0.75 * each[0] + 0.25 * each[1]
    assert torch.allclose(encoder.average_values()[3], expected, atol=1e-6)


def test_numbers_alone_need_no_vectors_of_codes() -> None:
    torch.manual_seed(0)
    plain = ObservationsEncoder(ObservationsSection(width=8), [Feature("age"), Feature("crp")], 16, 2, 0.0)
    assert plain.codes is None
    assert {name.partition(".")[0] for name in plain.state_dict()} == {
        *("inner", "inner_bias", "outer", "feature", "layers", "norm")
    }


def test_an_age_above_ninety_is_read_as_a_cohort_keeps_it():
    assert demographic(Patient(age=97.0), "age") == 90
    assert demographic(Patient(age=89.5), "age") == 89.5
    assert demographic(Patient(), "age") is None
