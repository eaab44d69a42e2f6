"""Which route a study takes."""

from __future__ import annotations

import pytest

from hospital.store.received import Code
from hospital.studies.rules.routing import Conditions, Route, routed
from tests.hospital.studies.records import instance

CHEST = Conditions(modalities=frozenset({"DX", "CR"}), body_parts=frozenset({"CHEST"}))


def test_the_first_route_that_an_image_takes_is_that_of_the_study_with_the_images_that_do() -> None:
    routes = [
        Route("mammography", "main", (), conditions=Conditions(modalities=frozenset({"MG"}))),
        Route("chest", "main", ("pacs",), conditions=CHEST),
        Route("rest", "main", ()),
    ]
    images = [instance(1, body_part="HAND"), instance(2, body_part="CHEST"), instance(3, modality="OT")]
    found = routed(routes, images)
    assert found is not None
    assert (found.route.name, found.images) == ("chest", (images[1],))
    rest = routed(routes, images[:1])
    assert rest is not None
    assert rest.route.name == "rest"
    assert routed(routes[:2], images[:1]) is None


def test_the_priority_of_the_orders_decides_where_a_route_asks_for_it() -> None:
    urgent = Route("urgent", "main", (), conditions=Conditions(priorities=frozenset({"stat"})))
    routes = [urgent, Route("rest", "main", ())]
    taken = [routed(routes, [instance(1)], priority) for priority in ("stat", "routine")]
    assert [one.route.name for one in taken if one] == ["urgent", "rest"]


@pytest.mark.parametrize(("age", "met"), [(17.9, False), (18.0, True), (89.9, True), (90.0, False), (None, False)])
def test_an_age_is_within_its_range_and_an_unknown_one_is_not(age: float | None, met: bool) -> None:
    assert Conditions(ages=(18, 90)).met_by(instance(age=age)) is met


@pytest.mark.parametrize(
    ("conditions", "met"),
    [
        (Conditions(), True),
        (Conditions(sources=frozenset({"pacs"})), True),
        (Conditions(sources=frozenset({"other"})), False),
        (Conditions(body_parts=frozenset({"chest_pa"})), True),
        (Conditions(views=frozenset({"PA", "LATERAL"})), True),
        (Conditions(views=frozenset({"LATERAL"})), False),
        (Conditions(stations=frozenset({"ROOM1"})), False),
        (Conditions(procedures=frozenset({"399208008"})), True),
        (Conditions(procedures=frozenset({"SCT:399208008"})), True),
        (Conditions(procedures=frozenset({"LN:399208008"})), False),
    ],
)
def test_all_conditions_must_be_met_and_what_an_image_does_not_say_meets_none(
    conditions: Conditions, met: bool
) -> None:
    image = instance(body_part=" Chest PA", view="PA", procedures=(Code("399208008", "SCT"),))
    assert conditions.met_by(image) is met
