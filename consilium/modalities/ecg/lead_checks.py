"""What the leads of a recording say of each other and of how they were recorded.

Of the limb leads two determine the other four (Einthoven 1912, Goldberger 1942): III = II - I, aVR = -(I + II) / 2,
aVL = I - II / 2, aVF = II - I / 2. These hold on any scale that is the same for all leads, so they tell whether a
file's gains are: the stored integers of a recorder have one step for all leads.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import numpy.typing as npt

from consilium.modalities.ecg.files.signals import LEADS, Floats

_LIMB = 6
_I, _II, _AVR, _V6 = 0, 1, 3, 11
_BY_PAIR = np.array([[1, 0], [0, 1], [-1, 1], [-0.5, -0.5], [1, -0.5], [-0.5, 1]])
"""Each limb lead as a combination of I and II."""
_LAWS: tuple[tuple[list[int], Floats], ...] = tuple(
    (list(three), weights / np.abs(weights).max())
    for three in combinations(range(_LIMB), 3)
    for weights in [np.cross(*_BY_PAIR[list(three)].T)]
)
"""Of each three limb leads, the weights with which they add up to 0: as III = II - I, aVR + aVL + aVF = 0."""
_BREAKS, _OBEYS, _ROUNDING = 0.05, 0.02, 1.0
"""What a law leaves: more than the first share of the leads' own size breaks it; integers obey it up to the second
share, or to so many steps, which a recorder's rounding leaves."""
_LOOKED_AT = 30_000
"""Samples of long recordings, evenly over them, of which the laws are looked at."""
_FLAT = 0.02
"""Of the median lead's range: a lead of less is flat."""
_CLIPPED = 0.01
"""Share of a lead's samples that stand still at its highest or lowest value."""
_HELD_SECONDS, _FAR = 0.012, 0.15
"""How long it stands there at a time, and how far that is from its median, as a share of its range."""
_HUM = 0.05
"""Of a lead's power between 1 and 40 Hz: as much within 1 Hz of the mains is strong."""
_REVERSED, _UPRIGHT = -0.3, -0.5
"""Correlations with V6: below the first lead I or II is upside down, above the second aVR is not as it should be.

Of the 200 recordings that `benchmarks/ludb.py` reads 2 % are flagged as they are, and 90 % with either pair swapped.
"""


def completed(leads: Floats) -> tuple[Floats, tuple[str, ...]]:
    """`leads` [12, T] with the limb leads that two others determine, and which these are."""
    there = np.isfinite(leads[:_LIMB]).any(axis=1)
    if there.all() or there.sum() < 2:
        return leads, ()
    given = np.flatnonzero(there)[:2]
    pair = np.linalg.inv(_BY_PAIR[given]) @ leads[given]
    missing = np.flatnonzero(~there)
    found = leads.copy()
    found[missing] = _BY_PAIR[missing] @ pair
    return found, tuple(LEADS[position] for position in missing)


def _residues(leads: Floats) -> list[tuple[float, float]]:
    """Root mean squares of what the laws of three limb leads leave of [12, T], and of the leads themselves.

    Of those laws whose three leads are there: leads that are each scaled or named wrongly, but alike, as all augmented
    ones, obey the laws among themselves. Offsets do not count.
    """
    leads, found = leads[:, :: 1 + leads.shape[1] // _LOOKED_AT], []
    for rows, weights in _LAWS:
        whole = np.isfinite(leads[rows]).all(axis=0)
        if whole.sum() > 1:
            three = leads[rows][:, whole]
            three = three - three.mean(axis=1, keepdims=True)
            left = weights @ three
            found.append((float(np.sqrt((left**2).mean())), float(np.sqrt((three**2).mean()))))
    return found


def gains_are_wrong(millivolts: Floats, steps: Floats | None) -> bool:
    """Whether the integers obey the laws of the limb leads, and what the gains make of them does not."""
    if steps is None or not limb_leads_contradict(millivolts):
        return False
    return all(left <= max(_ROUNDING, _OBEYS * size) for left, size in _residues(steps))


def limb_leads_contradict(leads: Floats) -> bool:
    """Whether the limb leads break a law."""
    return any(left > _BREAKS * size for left, size in _residues(leads))


def flat_leads(leads: Floats) -> npt.NDArray[np.bool_]:
    """Which leads [12, T] are there and stand still."""
    there = np.isfinite(leads).any(axis=1)
    low, high = np.zeros(len(leads)), np.zeros(len(leads))
    low[there], high[there] = np.nanpercentile(leads[there], [0.5, 99.5], axis=1)
    ranges = high - low
    usual = float(np.median(ranges[there & (ranges > 0)])) if (there & (ranges > 0)).any() else 0.0
    return there & (ranges <= _FLAT * usual)


def clipped(leads: Floats, rate: float) -> bool:
    """Whether a lead stands still at its highest or at its lowest value, again and again."""
    held = max(3, round(_HELD_SECONDS * rate))
    for lead in leads:
        known = lead[np.isfinite(lead)]
        if len(known) < held:
            continue
        middle, least = np.median(known), _FAR * np.ptp(known)
        for extreme in (known.max(), known.min()):
            if abs(extreme - middle) > least and _held(known == extreme, held) >= _CLIPPED * len(known):
                return True
    return False


def _held(at: npt.NDArray[np.bool_], least: int) -> int:
    """How many of the samples that are `at` an extreme are so in runs of at `least` as many."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], at.astype(np.int8), [0]])))
    runs = edges[1::2] - edges[::2]
    return int(runs[runs >= least].sum())


def hums(leads: Floats, rate: float) -> bool:
    """Whether the mains are strong in half of the leads or more."""
    found = [_hum(lead[np.isfinite(lead)], rate) > _HUM for lead in leads if np.isfinite(lead).sum() > rate]
    return bool(found) and sum(found) >= len(found) / 2


def _hum(lead: Floats, rate: float) -> float:
    power = np.abs(np.fft.rfft((lead - lead.mean()) * np.hanning(len(lead)))) ** 2
    frequencies = np.fft.rfftfreq(len(lead), 1 / rate)
    heart = float(power[(frequencies >= 1) & (frequencies <= 40)].sum())
    mains = [float(power[np.abs(frequencies - line) <= 1].sum()) for line in (50, 60)]
    return max(mains) / heart if heart > 0 else 0.0


def arms_reversed(leads: Floats) -> bool:
    """Whether lead I or II is upside down beside V6, and aVR upright, which it never is as recorded rightly.

    Right arm with left arm turns I over, right arm with a leg II. Left arm with left leg is not seen so.
    """
    rows = leads[[_I, _II, _AVR, _V6]]
    whole = np.isfinite(rows).all(axis=0)
    if whole.sum() < 2:
        return False
    one, two, avr, apex = rows[:, whole]
    if min(map(np.std, (one, two, avr, apex))) == 0:
        return False
    like = [float(np.corrcoef(lead, apex)[0, 1]) for lead in (one, two)]
    return min(like) < _REVERSED and float(np.corrcoef(avr, apex)[0, 1]) > _UPRIGHT


def filled(lead: Floats) -> Floats:
    """`lead` [T] with what is missing between samples put on the line between them; its ends stay."""
    known = np.flatnonzero(np.isfinite(lead))
    if not len(known):
        return lead
    within = np.arange(known[0], known[-1] + 1)
    found = lead.copy()
    found[within] = np.interp(within, known, lead[known])
    return found


def in_order(names: Sequence[int], values: Floats) -> Floats:
    """`values` [L, T] of the leads at the positions `names` as [12, T], NaN where there is none."""
    found = np.full((len(LEADS), values.shape[1]), np.nan)
    found[list(names)] = values
    return found
