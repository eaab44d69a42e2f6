"""What completeness is judged by."""

from __future__ import annotations

import pytest

from hospital.store.received import ReceivedInstance, ReceivedStep
from hospital.store.state import Revision
from hospital.studies.assembly import Assembled
from hospital.studies.rules.current_records import current_instances
from hospital.studies.rules.matching import identity_of
from tests.hospital.studies.records import NOON, STUDY, aliases, instance, minutes


def assembled(*received: ReceivedInstance, steps: tuple[ReceivedStep, ...] = (), answered: bool = False) -> Assembled:
    revision = Revision("0" * 64, STUDY, 1, NOON + minutes(15), {}, b"")
    current = current_instances(received)
    identity = identity_of(current.used, aliases())
    return Assembled(identity, received, current, current.used, steps, (revision,) * answered, NOON + minutes(20))


def step(state: str, *instances: str) -> ReceivedStep:
    return ReceivedStep("1.9", STUDY, state, instances, NOON, "modality")  # type: ignore[arg-type]


def test_results_of_our_own_in_the_archive_are_no_missing_objects() -> None:
    ours = instance(9, ours=True)
    found = assembled(instance(1), ours).arrived(frozenset({instance(1).sop_instance, ours.sop_instance}), False)
    assert found is not None
    assert (found.instances, found.counted) == (2, 2)


def test_what_the_source_has_beside_ours_is_missing() -> None:
    found = assembled(instance(1)).arrived(frozenset({instance(2).sop_instance}), held=True)
    assert found is not None
    assert (found.instances, found.counted, found.open_associations) == (1, 2, 1)


def test_only_objects_since_the_last_answer_count_as_new() -> None:
    late = instance(2, received=NOON + minutes(18))
    found = assembled(instance(1), late, answered=True).arrived(None, False)
    assert found is not None
    assert (found.first, found.last, found.instances) == (late.received, late.received, 2)
    assert assembled(instance(1), answered=True).arrived(None, False) is None


@pytest.mark.parametrize(
    ("state", "named", "whole"), [("completed", 1, True), ("completed", 2, False), ("in progress", 1, False)]
)
def test_a_performed_step_announces_its_objects(state: str, named: int, whole: bool) -> None:
    steps = (step(state, *[instance(number + 1).sop_instance for number in range(named)]),)
    found = assembled(instance(1), steps=steps).arrived(None, False)
    assert found is not None
    assert all(found.announced.values()) is whole
