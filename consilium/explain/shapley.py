"""What each modality brought: exact Shapley values.

The game's players are the modalities that the study has, its value v(S) the calibrated log-odds when the model reads S
alone, and v(∅) the prior (Shapley 1953). Encoding happens once, fusion 2^M - 1 times.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import comb

import numpy as np
import numpy.typing as npt

from consilium.modalities.registry import modality_names, nonempty_subsets


def shapley_weights(subsets: npt.NDArray[np.bool_], player: int) -> npt.NDArray[np.float64]:
    """What the worth of each subset counts in the Shapley value of `player`, [2^n].

    Parameters
    ----------
    subsets : bool [2^n, n]
        All subsets of n players.
    """
    players = subsets.shape[1]
    others = subsets.sum(axis=1) - subsets[:, player]
    share = 1 / (players * np.array([comb(players - 1, int(size)) for size in others]))
    return np.where(subsets[:, player], share, -share)


def shapley(values: Mapping[frozenset[str], float]) -> dict[str, float]:
    """Shapley value of each player.

    Parameters
    ----------
    values : mapping of modality subset to float
        v(S) of every subset of the largest one, the empty subset included.

    Returns
    -------
    dict of str to float
        Adds up to v(all) - v(∅).
    """
    players = sorted(frozenset[str]().union(*values), key=modality_names().index)
    everyone = [frozenset[str](), *nonempty_subsets(players)]
    subsets = np.array([[player in subset for player in players] for subset in everyone]).reshape(len(everyone), -1)
    worth = np.array([values[subset] for subset in everyone])
    return {player: float(shapley_weights(subsets, k) @ worth) for k, player in enumerate(players)}


def leave_one_out(values: Mapping[frozenset[str], float]) -> dict[str, float]:
    """What the answer from all modalities loses without each one; parameters as `shapley`."""
    players = max(values, key=len)
    return {
        player: values[players] - values[players - {player}] for player in sorted(players, key=modality_names().index)
    }
