from __future__ import annotations

import numpy as np
import pytest

from consilium.domain.diagnosis import ABSENT, PRESENT, Estimate, FindingResult, OperatingPoint
from consilium.domain.errors import WrongAnswers
from consilium.inference.self_test import Answer, Backend, Tolerance, accept, require_trained_answers

WHOLE = Estimate(0.9, 0.8, 1.0)
POINT = OperatingPoint(0.5, 0.9, WHOLE, WHOLE)
TOLERANCE = Tolerance(reference=0.001, backend=0.05, margin=0.01)


def answer(*probabilities: float, possible: tuple[str, ...] = (ABSENT, PRESENT)) -> Answer:
    """A call from 0.5 on."""
    return tuple(
        FindingResult(f"f{number}", f"F{number}", None, p, p >= POINT.threshold, POINT, {}, (0.0, 1.0), possible, ())
        for number, p in enumerate(probabilities)
    )


def test_answers_as_they_were_are_those_of_the_trained_model() -> None:
    require_trained_answers([answer(0.2, 0.7)], np.array([[0.2009, 0.6991]]), TOLERANCE)


def test_the_farthest_answer_is_named_with_what_it_was() -> None:
    trained = np.array([[0.2, 0.7], [0.1, 0.6]])
    with pytest.raises(WrongAnswers, match=r"reference study 1: f1: got 0\.6500, must be within 0\.001 of 0\.6000"):
        require_trained_answers([answer(0.21, 0.7), answer(0.1, 0.65)], trained, TOLERANCE)


def test_an_accepted_backend_tells_its_largest_deviation() -> None:
    plain = [answer(0.2, 0.7), answer(0.9, 0.1)]
    served = [answer(0.21, 0.7), answer(0.9, 0.06)]
    accepted = accept(Backend.BF16, plain, served, TOLERANCE)
    assert (accepted.studies, accepted.flipped) == (2, 0)
    assert accepted.largest_deviation == pytest.approx(0.04)
    assert accepted.to_json() == {
        "name": "bf16",
        "reference_studies": 2,
        "largest_deviation": accepted.largest_deviation,
        "flipped": 0,
        "bound": 0.05,
        "margin": 0.01,
    }


def test_a_backend_beyond_the_bound_is_refused() -> None:
    with pytest.raises(WrongAnswers, match=r"backend bf16: .* f0: got 0\.3000, must be within 0\.05 of 0\.2000"):
        accept(Backend.BF16, [answer(0.2)], [answer(0.3)], TOLERANCE)


def test_no_probability_is_no_answer() -> None:
    with pytest.raises(WrongAnswers, match="nan"):
        accept(Backend.BF16, [answer(0.2)], [answer(float("nan"))], TOLERANCE)


@pytest.mark.parametrize(
    ("plain", "served"),
    [
        (answer(0.495), answer(0.504)),
        (answer(0.8, possible=(PRESENT,)), answer(0.809)),
        (answer(0.2, possible=(ABSENT,)), answer(0.2, possible=())),
    ],
    ids=["call", "set", "set of nothing"],
)
def test_what_flips_within_the_margin_is_counted(plain: Answer, served: Answer) -> None:
    assert accept(Backend.OPENVINO, [plain, answer(0.9)], [served, answer(0.9)], TOLERANCE).flipped == 1


@pytest.mark.parametrize(
    ("plain", "served"),
    [(answer(0.485), answer(0.505)), (answer(0.8, possible=(PRESENT,)), answer(0.82))],
    ids=["call", "set"],
)
def test_what_flips_outside_of_the_margin_is_refused_though_within_the_bound(plain: Answer, served: Answer) -> None:
    with pytest.raises(WrongAnswers, match=r"reference study 1: a call or prediction set flips.*0\.0200.*within 0\.01"):
        accept(Backend.OPENVINO, [answer(0.9), plain], [answer(0.9), served], TOLERANCE)
