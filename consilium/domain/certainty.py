"""Words for how likely a finding is: each stands for a range of calibrated probabilities, in every language."""

from __future__ import annotations

from enum import StrEnum


class Certainty(StrEnum):
    """From the least likely to the most.

    `lowest` is the least probability for which the word stands; it reaches up to that of the next.
    """

    lowest: float

    VERY_UNLIKELY = "very unlikely", 0.0
    UNLIKELY = "unlikely", 0.05
    POSSIBLE = "possible", 0.25
    PROBABLE = "probable", 0.75
    ALMOST_CERTAIN = "almost certain", 0.95

    def __new__(cls, word: str, lowest: float) -> Certainty:
        one = str.__new__(cls, word)
        one._value_, one.lowest = word, lowest
        return one

    @property
    def below(self) -> float:
        """The probability from which another word stands; 1 belongs to the last."""
        return min((one.lowest for one in Certainty if one.lowest > self.lowest), default=1.0)


def certainty_of(probability: float) -> Certainty:
    """The word for a calibrated probability.

    Raises
    ------
    ValueError
        It lies beyond 0 and 1, or is no number.
    """
    if not 0 <= probability <= 1:
        raise ValueError(f"a probability lies between 0 and 1, not at {probability}")
    return max((one for one in Certainty if one.lowest <= probability), key=lambda one: one.lowest)
