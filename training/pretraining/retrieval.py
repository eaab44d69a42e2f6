"""Retrieval: how often a study's record of one modality is found by its record of another, among other studies'.

Every figure is a mean over queries, with the queries' own values kept so that two rankings can be compared on the same
queries. Of records that score alike, each order is as likely.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

GALLERY = 100
"""Records among which one is looked for."""
_FEWEST = 10


@dataclass(frozen=True, slots=True, eq=False)
class Ranking:
    """How Q queries did.

    Attributes
    ----------
    first, tenth : float64 [Q]
        Chance that the query's own record is among the first, or the first ten.
    rank : float64 [Q]
        Share of the other records that score below the own one, ties by half: the AUROC of one query.
    """

    first: Floats
    tenth: Floats
    rank: Floats

    def __len__(self) -> int:
        return len(self.rank)

    def figures(self) -> dict[str, float]:
        """Their means."""
        return {"r1": float(self.first.mean()), "r10": float(self.tenth.mean()), "rank": float(self.rank.mean())}


def rank_own(scores: npt.NDArray) -> Ranking:
    """Of queries (rows) among candidates (columns), float [Q, Q], whose own ones stand on the diagonal."""
    own = np.diagonal(scores)[:, None]
    others = ~np.eye(len(scores), dtype=bool)
    above = ((scores > own) & others).sum(axis=1)
    level = ((scores == own) & others).sum(axis=1)
    first, tenth = (np.clip((k - above) / (level + 1), 0, 1) for k in (1, 10))
    below = len(scores) - 1 - above - level
    return Ranking(first, tenth, (below + level / 2) / max(1, len(scores) - 1))


def galleries(count: int, seed: int, size: int = GALLERY) -> list[npt.NDArray[np.int64]]:
    """`count` records in random groups of `size`; a rest that is smaller stays out, unless it is all there is."""
    order = np.random.default_rng(seed).permutation(count)
    whole = [order[start : start + size] for start in range(0, count - size + 1, size)]
    return whole or ([order] if count >= _FEWEST else [])


def rank_in_galleries(scores: npt.NDArray, groups: list[npt.NDArray[np.int64]]) -> Ranking:
    """`rank_own` within each group of the records that `scores` [N, N] compares."""
    found = [rank_own(scores[np.ix_(group, group)]) for group in groups]
    return Ranking(*(np.concatenate([getattr(one, name) for one in found]) for name in ("first", "tenth", "rank")))
