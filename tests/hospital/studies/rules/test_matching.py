"""Whose records belong to a study."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from typing import Any

import pytest

from consilium.domain.study import Sex
from hospital.store.received import Accession, PatientId, ReceivedInstance
from hospital.studies.rules.matching import (
    CONTRADICTION,
    MatchedRecords,
    PatientRecords,
    SeveralPatients,
    identity_of,
    match,
    orders_of,
)
from hospital.studies.rules.patient_aliases import PatientAliases
from tests.hospital.studies.records import (
    CLINIC,
    NOON,
    ORDER,
    READS,
    STUDY,
    WARD,
    aliases,
    hours,
    instance,
    minutes,
    note,
    observation,
    order,
    update,
)


def matched(
    images: list[ReceivedInstance] | None = None, known: PatientAliases | None = None, **stored: Any
) -> MatchedRecords:
    images, known = images or [instance()], known or aliases()
    return match(identity_of(images, known), images, PatientRecords(**stored), known, NOON, READS)


def test_values_of_another_patient_with_the_same_number_are_left_out() -> None:
    mine, other = observation(112.0), observation(5.0, patient=CLINIC)
    bare = observation(7.0, patient=PatientId(WARD.value))
    assert matched(observations=[mine, other, bare]).observations == (mine,)


def test_values_of_a_former_identifier_belong_to_the_patient_after_a_merge() -> None:
    former = PatientId("17", "WARD")
    value = observation(patient=former)
    assert matched(observations=[value]).observations == ()
    assert matched(known=aliases((WARD, former)), observations=[value]).observations == (value,)


@pytest.mark.parametrize(("hours_before", "used"), [(0, True), (72, True), (72.1, False), (-0.01, False)], ids=str)
def test_only_values_within_the_models_window_are_used(hours_before: float, used: bool) -> None:
    value = observation(time=NOON - hours(hours_before))
    assert (matched(observations=[value]).observations == (value,)) is used


def test_values_without_a_time_and_studies_without_one_are_not_brought_together() -> None:
    assert matched(observations=[observation(time=None)]).observations == ()
    identity = identity_of([instance()], aliases())
    found = match(identity, [instance()], PatientRecords([observation()], [note()]), aliases(), None, READS)
    assert (found.observations, found.notes) == ((), ())


def test_a_value_that_cannot_be_used_is_warned_of_without_its_value() -> None:
    found = matched(observations=[observation(None, problem="unit is not understood"), observation(key="2")])
    assert len(found.observations) == 1
    assert found.warnings == ("a value of the record is left out: unit is not understood",)


def test_values_that_the_model_does_not_read_are_left_out() -> None:
    assert matched(observations=[observation(code="2345-7")]).observations == ()


@pytest.mark.parametrize("kind", ["findings", "impression", "nursing"])
def test_reports_and_kinds_that_the_model_does_not_read_are_no_notes(kind: str) -> None:
    history = note()
    found = matched(notes=[history, note("There is an infiltrate.", kind=kind, study=STUDY)])
    assert found.notes == (history,)


def test_orders_match_by_accession_with_issuer_or_by_study_uid() -> None:
    identity, known = identity_of([instance()], aliases()), aliases()
    by_number, by_uid = order(), order(accession=None, study=STUDY)
    others = [
        order(accession=Accession(ORDER.value, "OTHER")),
        order(accession=Accession(ORDER.value)),
        order(accession=None, study="1.2.4"),
        order(patient=CLINIC),
    ]
    assert orders_of(identity, [by_number, by_uid, *others], known) == [by_number, by_uid]


def test_an_accession_number_without_issuer_matches_nothing() -> None:
    bare = Accession("A1")
    identity = identity_of([instance(accession=bare)], aliases())
    assert orders_of(identity, [order(accession=bare)], aliases()) == []


@pytest.mark.parametrize(
    ("image", "registered"),
    [
        (instance(birth_date=date(1950, 1, 2)), update(date(1950, 2, 1))),
        (instance(sex=Sex.MALE), update(sex=Sex.FEMALE)),
    ],
    ids=["birth date", "sex"],
)
def test_contradicting_demographics_leave_the_record_out(image: ReceivedInstance, registered: Any) -> None:
    found = matched([image], observations=[observation()], notes=[note()], orders=[order()], updates=[registered])
    assert found == MatchedRecords(warnings=(CONTRADICTION,))


def test_what_is_not_known_contradicts_nothing() -> None:
    found = matched([instance(sex=Sex.OTHER)], observations=[observation()], updates=[update(None, Sex.FEMALE)])
    assert len(found.observations) == 1
    assert (found.birth_date, found.sex) == (None, Sex.FEMALE)


def test_the_latest_registration_counts_and_an_empty_one_takes_nothing_back() -> None:
    updates = [
        update(None, Sex.UNKNOWN, time=NOON),
        update(date(1950, 1, 2), Sex.MALE),
        update(date(1951, 1, 2), Sex.FEMALE, time=NOON - minutes(5)),
    ]
    found = matched(updates=updates)
    assert (found.birth_date, found.sex) == (date(1951, 1, 2), Sex.FEMALE)


def test_objects_of_several_patients_are_no_study() -> None:
    objects = [instance(1), instance(2, patient=CLINIC)]
    with pytest.raises(SeveralPatients):
        identity_of(objects, aliases())
    assert identity_of(objects, aliases((WARD, CLINIC))).patient == WARD


def test_a_missing_issuer_is_completed_within_a_study_and_contradicts_another_number() -> None:
    bare = PatientId(WARD.value)
    assert identity_of([instance(1), instance(2, patient=bare)], aliases()).patient == WARD
    assert identity_of([instance(1, patient=bare)], aliases()).patient == bare
    with pytest.raises(SeveralPatients):
        identity_of([instance(1), instance(2, patient=PatientId("12"))], aliases())


def test_a_study_without_a_patient_gets_nothing_but_its_images() -> None:
    image = replace(instance(), patient=None)
    found = matched([image], observations=[observation()], orders=[order()])
    assert found == MatchedRecords(warnings=("the images name no patient: only they are used",))


def test_objects_with_several_accession_numbers_match_no_order_by_them() -> None:
    objects = [instance(1), instance(2, accession=Accession("A2", "RIS"))]
    assert identity_of(objects, aliases()).accession is None
