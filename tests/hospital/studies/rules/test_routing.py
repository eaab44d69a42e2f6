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
