"""What each modality brought: exact Shapley values.

The game's players are the modalities that the study has, its value v(S) the calibrated log-odds when the model hears S
alone, and v(∅) the prior (Shapley 1953). Encoding happens once, fusion 2^M - 1 times.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import factorial

from consilium.study import Modality, nonempty_subsets


def shapley(values: Mapping[frozenset[Modality], float]) -> dict[Modality, float]:
    """Shapley value of each player.

    Parameters
    ----------
    values : mapping of modality subset to float
        v(S) of every subset of the largest one, the empty subset included.

    Returns
    -------
    dict of Modality to float
        Adds up to v(all) - v(∅).
    """
    players = max(values, key=len)
    count = len(players)
    everyone = [frozenset[Modality](), *nonempty_subsets(players)]
    return {
        player: sum(
            factorial(len(others))
            * factorial(count - len(others) - 1)
            / factorial(count)
            * (values[others | {player}] - values[others])
            for others in everyone
            if player not in others
        )
        for player in sorted(players, key=list(Modality).index)
    }
