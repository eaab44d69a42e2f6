"""When a study is complete: it was quiet, nothing is arriving, and something proves that nothing is missing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal

Proof = Literal["count", "views", "announced"]
"""The source's count equals ours; the views that the route wants are there; MPPS or an availability notification."""


@dataclass(frozen=True, slots=True)
class CompletenessRules:
    """What a route wants before a study is asked.

    Attributes
    ----------
    quiet : timedelta
        Without a new object.
    deadline : timedelta
        After the first object: then the study goes on as it is, with a warning.
    views : frozenset of str
        View positions that must be there; empty: views prove nothing.
    proofs : tuple of Proof
        Any of these is enough. None: quiet is.
    """

    quiet: timedelta
    deadline: timedelta
    proofs: tuple[Proof, ...] = ("count",)
    views: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Arrived:
    """What has arrived of a study, and what its source says of it."""

    first: datetime
    last: datetime
    instances: int
    open_associations: int = 0
    views: frozenset[str] = frozenset()
    counted: int | None = None
    """Instances that the source has, as it answered after the last object arrived; None: it was not asked, or does not
    answer."""
    announced: Mapping[str, bool] = field(default_factory=dict)
    """SOP Instance UIDs that an MPPS or an availability notification names; whether each is here. Empty: none came."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a study is complete.

    Attributes
    ----------
    again : datetime or None
        When to look again; None: it is complete.
    warning : str or None
        What a reader of the answer has to know.
    proof : str or None
        What proved it.
    """

    again: datetime | None = None
    warning: str | None = None
    proof: Proof | None = None

    @property
    def complete(self) -> bool:
        return self.again is None


def completeness(arrived: Arrived, rules: CompletenessRules, now: datetime, every: timedelta) -> Verdict:
    """Whether a study is complete `now`; where it is not, look again, at the latest after `every`.

    A study is never given up: at the deadline it goes on, with a warning that says what was not proved.
    """
    deadline = arrived.first + rules.deadline
    quiet_from = arrived.last + rules.quiet
    if now >= quiet_from and not arrived.open_associations:
        if not rules.proofs:
            return Verdict()
        proof = next((proof for proof in rules.proofs if _proved(proof, arrived, rules)), None)
        if proof is not None:
            return Verdict(proof=proof)
    if now >= deadline:
        return Verdict(warning=_missing(arrived, rules, quiet=now >= quiet_from))
    return Verdict(again=min(deadline, max(now, quiet_from) if now < quiet_from else now + every))


def _proved(proof: Proof, arrived: Arrived, rules: CompletenessRules) -> bool:
    if proof == "count":
        return arrived.counted is not None and arrived.counted <= arrived.instances
    if proof == "views":
        return bool(rules.views) and rules.views <= arrived.views
    return bool(arrived.announced) and all(arrived.announced.values())


def _missing(arrived: Arrived, rules: CompletenessRules, quiet: bool) -> str:
    begin = "the study may be incomplete: at the deadline"
    if not quiet or arrived.open_associations:
        return f"{begin} objects were still arriving"
    if arrived.counted is not None and arrived.counted > arrived.instances:
        return f"{begin} {arrived.instances} of the source's {arrived.counted} objects had arrived"
    missing = sorted(rules.views - arrived.views)
    if missing and "views" in rules.proofs:
        return f"{begin} these views were missing: {', '.join(missing)}"
    return f"{begin} its source had not confirmed that it is whole"
