"""Versions of values, notes, orders and objects."""

from __future__ import annotations

from hospital.store.received import Code, ReceivedRejection, Status
from hospital.studies.rules.current_records import (
    current_instances,
    current_notes,
    current_observations,
    current_orders,
)
from tests.hospital.studies.records import NOON, STUDY, instance, minutes, note, observation, order


def later(number: int) -> dict[str, object]:
    return {"issued": NOON + minutes(number), "version": str(number)}


def test_a_corrected_value_replaces_the_former_one() -> None:
    versions = [observation(80.0, status=Status.CORRECTED, **later(2)), observation(112.0, **later(1))]
    assert [one.value for one in current_observations(versions)] == [80.0]


def test_a_withdrawn_value_is_left_out_until_it_comes_anew() -> None:
    versions = [observation(112.0, **later(1)), observation(None, status=Status.WITHDRAWN, **later(2))]
    assert current_observations(versions) == []
    again = observation(90.0, status=Status.CORRECTED, **later(3))
    assert current_observations([*versions, again]) == [again]


def test_a_preliminary_value_is_not_used_and_replaces_none() -> None:
    assert current_observations([observation(status=Status.PRELIMINARY)]) == []
    versions = [observation(112.0, **later(1)), observation(50.0, status=Status.PRELIMINARY, **later(2))]
    assert [one.value for one in current_observations(versions)] == [112.0]


def test_one_key_at_two_sources_is_two_values() -> None:
    assert len(current_observations([observation(1.0, source="lis"), observation(2.0, source="ward")])) == 2


def test_the_latest_version_of_a_note_and_of_an_order_count() -> None:
    assert [
        one.text for one in current_notes([note("New.", key="N", **later(2)), note("Old.", key="N", **later(1))])
    ] == ["New."]
    orders = [order("Pneumonia?"), order("Effusion?", time=NOON - minutes(5))]
    assert [one.reason for one in current_orders(orders)] == ["Effusion?"]
    assert current_orders([*orders, order(None, time=NOON, cancelled=True)]) == []


def test_an_object_that_was_sent_again_with_other_content_replaces_the_former() -> None:
    first, again = instance(1), instance(1, "changed", received=NOON + minutes(20))
    found = current_instances([again, first, instance(2)])
    assert [one.digest for one in found.used] == [again.digest, instance(2).digest]
    assert (found.changed, found.rejected) == (1, 0)


def test_rejected_objects_are_left_out_also_where_the_note_came_first() -> None:
    rejection = ReceivedRejection(STUDY, (instance(1).sop_instance,), Code("113001", "DCM"), NOON, "pacs")
    found = current_instances([instance(1), instance(2)], [rejection])
    assert [one.sop_instance for one in found.used] == [instance(2).sop_instance]
    assert found.rejected == 1


def test_our_own_results_are_never_among_the_objects() -> None:
    assert current_instances([instance(1, ours=True)]).used == ()
