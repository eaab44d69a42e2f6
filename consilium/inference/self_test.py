"""Acceptance: whether a model, run by one backend, answers its reference studies as it should.

Twice: as the plain model, in eager float32 on the CPU, it must answer as it did when it was trained, or it is not the
model that was trained; and as it is served, it must answer as the plain model does. No torch here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from consilium.domain.diagnosis import FindingResult
from consilium.domain.errors import WrongAnswers

Answer: TypeAlias = tuple[FindingResult, ...]
"""The answer to every finding of one study."""


class Backend(StrEnum):
    """What runs the network; everything before and after it is the same."""

    EAGER = "eager"
    """torch, float32."""
    BF16 = "bf16"
    """torch, bfloat16 where autocast allows, channels last."""
    OPENVINO = "openvino"
    """The encoders of images and notes by OpenVINO on the CPU, float32; the rest in torch."""
    OPENVINO_BF16 = "openvino-bf16"
    """The same with these encoders in bfloat16, where the CPU has it."""


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How far answers to reference studies may be off, as differences of probabilities.

    Attributes
    ----------
    reference : float
        Of the plain model from what it answered when it was trained.
    backend : float
        Of the model as it is served from the plain model.
    margin : float
        Likewise, for a study of which a call or a prediction set comes out otherwise: the plain model's probability is
        then no farther than this from the limit that was crossed.
    """

    reference: float = 1e-3
    backend: float = 0.02
    margin: float = 0.005


@dataclass(frozen=True, slots=True)
class Acceptance:
    """A model and its backend, accepted.

    Attributes
    ----------
    studies : int
        Reference studies answered.
    largest_deviation : float
        Of a probability as it is served from the plain model's.
    flipped : int
        Studies of which a call or a prediction set comes out otherwise, within the margin.
    """

    backend: Backend
    studies: int
    largest_deviation: float
    flipped: int
    tolerance: Tolerance

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.backend.value,
            "reference_studies": self.studies,
            "largest_deviation": self.largest_deviation,
            "flipped": self.flipped,
            "bound": self.tolerance.backend,
            "margin": self.tolerance.margin,
        }


def require_trained_answers(plain: Sequence[Answer], expected: npt.NDArray[np.float64], tolerance: Tolerance) -> None:
    """`WrongAnswers` unless the plain model's answers are the probabilities `expected` [N, F]."""
    _require_near(plain, expected, tolerance.reference, "what it was when the model was trained")


def accept(backend: Backend, plain: Sequence[Answer], served: Sequence[Answer], tolerance: Tolerance) -> Acceptance:
    """What `backend` answers beside the plain model's answers to the same studies.

    Raises
    ------
    WrongAnswers
        Where a probability is off by more than the tolerance's bound, or a call or set flips outside of its margin.
    """
    try:
        off = _require_near(served, _probabilities(plain), tolerance.backend, "the plain model's")
    except WrongAnswers as error:
        raise WrongAnswers(f"backend {backend}: {error}") from None
    flipped = [number for number, one in enumerate(served) if _said(one) != _said(plain[number])]
    for number in flipped:
        if off[number] > tolerance.margin:
            rule = f"may only flip where probabilities are within {tolerance.margin:g} of the plain model's"
            found = f"a call or prediction set flips, with probabilities that differ by {off[number]:.4f}"
            raise WrongAnswers(f"backend {backend}: reference study {number}: {found}; it {rule}")
    return Acceptance(backend, len(plain), float(off.max()), len(flipped), tolerance)


def _require_near(
    answers: Sequence[Answer], expected: npt.NDArray[np.float64], most: float, whose: str
) -> npt.NDArray[np.float64]:
    """Of each study the largest deviation from `expected` [N, F], [N]; `WrongAnswers` where one exceeds `most`."""
    given = _probabilities(answers)
    off = np.abs(given - expected)
    study, finding = divmod(int(off.argmax()), off.shape[1])
    if not off[study, finding] <= most:
        name = answers[study][finding].finding
        rule = f"must be within {most:g} of {expected[study, finding]:.4f}, {whose}"
        raise WrongAnswers(f"reference study {study}: {name}: got {given[study, finding]:.4f}, {rule}")
    largest: npt.NDArray[np.float64] = off.max(axis=1)
    return largest


def _probabilities(answers: Sequence[Answer]) -> npt.NDArray[np.float64]:
    return np.array([[result.probability for result in answer] for answer in answers])


def _said(answer: Answer) -> list[tuple[bool, tuple[str, ...]]]:
    return [(result.call, result.prediction_set) for result in answer]
