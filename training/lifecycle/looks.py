"""Looks at the same test studies: each spends its share of the chance that an inferior model is taken for a good one.

Whoever tries candidate after candidate on one test set finds one that passes by luck. So every look is counted with the
registered model, as a tag of the version that looked, and tests at what its number leaves of ``alpha``. A repeated look
of the same version, against the same champion and by the same gates, sees nothing new and keeps its number.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass

from scipy.stats import norm

from consilium.artifacts import model_registry as registry
from consilium.artifacts.registry_client import open_registry
from training.lifecycle.gate_file import Gates

_TAG = re.compile(r"look (?P<studies>[0-9a-f]{16}) (?P<what>[0-9a-f]{16})")


@dataclass(frozen=True, slots=True)
class Look:
    """One look at a test set.

    Attributes
    ----------
    number : int
        From 1 on.
    alpha : float
        One-sided chance of error that it may spend; 0 once all looks are used up.
    """

    number: int
    alpha: float

    def __str__(self) -> str:
        return f"look {self.number}, alpha {self.alpha:.4f}"


def share_of_alpha(gates: Gates, number: int) -> float:
    """What look `number` may spend: the difference of what all up to it and all before it may."""
    return _spent(gates, number) - _spent(gates, number - 1)


def _spent(gates: Gates, number: int) -> float:
    part = min(number / gates.looks, 1.0)
    if gates.spending == "equal" or part == 0:
        return gates.alpha * part
    return float(2 * norm.sf(norm.isf(gates.alpha / 2) / part**0.5))


def studies_digest(study_ids: Iterable[str]) -> str:
    """By which a set of studies is known again."""
    return hashlib.sha256(json.dumps(sorted(study_ids)).encode()).hexdigest()[:16]


def take_look(name: str, version: str, studies: str, champion: str, gates: Gates) -> Look:
    """Count a look of this version at the test set `studies` (`studies_digest`), before anything of it is seen."""
    what = hashlib.sha256(json.dumps([version, champion, gates.digest]).encode()).hexdigest()[:16]
    taken: dict[str, int] = {}
    for one in registry.list_versions(name):
        for key, value in one.tags.items():
            parts = _TAG.fullmatch(key)
            if parts is not None and parts["studies"] == studies:
                taken[parts["what"]] = int(value)
    number = taken.get(what, 1 + max(taken.values(), default=0))
    if what not in taken:
        open_registry().set_tag(name, version, f"look {studies} {what}", str(number))
    return Look(number, share_of_alpha(gates, number))
