"""What recordings may be: their rate, their length, their size. Without numpy, as the client has none."""

from __future__ import annotations

from consilium.domain.errors import InputError, TooLarge

LEAST_RATE, MOST_RATE = 50.0, 20_000.0
LEAST_SECONDS = 2.0


def check_rate(rate: float, field: str, given: object) -> None:
    """`InputError` unless it is a sampling rate of ECGs."""
    if not LEAST_RATE <= rate <= MOST_RATE:
        raise InputError(field, given, f"must lie between {LEAST_RATE:g} and {MOST_RATE:g} Hz")


def check_samples(leads: int, samples: int, most: int) -> None:
    """`TooLarge` of so many samples; looked at before any of what is declared is read."""
    if leads * samples > most:
        raise TooLarge("samples", f"{leads} leads of {samples} samples", f"must be at most {most} samples together")
