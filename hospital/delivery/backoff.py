"""How long to wait after the n-th failure in a row: exponential, with jitter, up to a limit."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from datetime import timedelta


@dataclass(frozen=True, slots=True)
class Backoff:
    """Doubling pauses; each is drawn between half of its length and all of it, so that lanes do not move in step.

    Attributes
    ----------
    first, longest : timedelta
    generator : random.Random
    """

    first: timedelta = timedelta(seconds=5)
    longest: timedelta = timedelta(minutes=15)
    generator: random.Random = field(default_factory=random.Random)

    def pause(self, failures: int) -> timedelta:
        """After `failures` in a row, at least one."""
        doublings = min(failures - 1, 30)
        whole = min(self.longest, self.first * 2**doublings)
        return whole * self.generator.uniform(0.5, 1.0)
