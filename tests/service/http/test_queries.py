"""Parameters of an address: none is passed over in silence."""

from __future__ import annotations

import pytest
from starlette.datastructures import QueryParams

from consilium.domain.errors import InputError
from service.http.queries import require_known


def test_known_ones_are_taken() -> None:
    require_known(QueryParams("state=read&limit=3"), "state", "sort", "limit")


@pytest.mark.parametrize(
    ("given", "message"),
    [("stat=read", "stat: .*did you mean state"), ("limit=1&limit=2", "limit: .*must be given once")],
)
def test_a_misspelt_one_names_the_nearest_and_a_repeated_one_is_refused(given: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        require_known(QueryParams(given), "state", "sort", "limit")
