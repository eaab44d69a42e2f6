import numpy as np
import pytest

from consilium.explain.shapley import shapley
from consilium.modalities.registry import nonempty_subsets
from tests.consilium.tiny import THREE

IMAGE, TEXT, VALUES = "image", "text", "observations"


def test_an_additive_game_gives_each_its_own() -> None:
    own = {IMAGE: 1.5, TEXT: -0.5, VALUES: 0.25}
    values = {subset: -2 + sum(own[m] for m in subset) for subset in [frozenset(), *nonempty_subsets(THREE)]}
    assert shapley(values) == pytest.approx(own)


def test_a_known_game_by_hand() -> None:
    # Two players that are worth something only together share it.
    values = {frozenset(): 0.0, frozenset({IMAGE}): 0.0, frozenset({TEXT}): 0.0, frozenset({IMAGE, TEXT}): 3.0}
    assert shapley(values) == pytest.approx({IMAGE: 1.5, TEXT: 1.5})


def test_values_add_up_to_what_was_won() -> None:
    rng = np.random.default_rng(0)
    values = {subset: float(rng.normal()) for subset in [frozenset(), *nonempty_subsets(THREE)]}
    assert sum(shapley(values).values()) == pytest.approx(values[frozenset(THREE)] - values[frozenset()])
