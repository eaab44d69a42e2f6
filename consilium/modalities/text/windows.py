"""Windows: a text that is longer than the model reads at a time, cut into pieces that overlap.

Each piece of the text takes its features from the window in which it has most text on either side, as BERT's own code
does for answers in long documents (``max_context`` in its ``run_squad.py``).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """How L word pieces lie in W windows of S pieces.

    Attributes
    ----------
    places : int64 [W, S]
        Which piece stands where; 0 where none does.
    there : bool [W, S]
        Whether one does.
    owned : bool [W, S]
        Where the window is read for the piece's own sake: not the marker that a further window begins with.
    owner : int64 [L]
        Where the features of each piece are taken from, window · S + place.
    """

    places: Tensor
    there: Tensor
    owned: Tensor
    owner: Tensor

    def to(self, device: torch.device) -> Layout:
        return Layout(self.places.to(device), self.there.to(device), self.owned.to(device), self.owner.to(device))


@dataclass(frozen=True, slots=True)
class Windows:
    """How long texts are cut.

    Attributes
    ----------
    size : int
        S: pieces that the model reads at a time.
    overlap : int
        Pieces that neighbouring windows share; at most half of a window.
    marked : bool
        Every window begins with the text's first piece, which is a marker such as ``[CLS]``.
    """

    size: int
    overlap: int
    marked: bool

    def layout(self, length: int) -> Layout:
        """Of a text of `length` pieces; one window as long as the text where that fits."""
        return _layout(self, length)


@lru_cache(maxsize=512)
@torch.inference_mode(mode=False)  # what is made in inference mode could not be differentiated through later
def _layout(windows: Windows, length: int) -> Layout:
    size = min(windows.size, length)
    lead = int(windows.marked)
    starts, end = [0], size
    while end < length:
        starts.append(end - windows.overlap)
        end = starts[-1] + size - lead
    places = torch.zeros(len(starts), size, dtype=torch.long)
    for window, start in enumerate(starts):
        own = lead if window else 0
        places[window, own:] = torch.arange(start, start + size - own)
    there = places < length
    owned = there.clone()
    owned[1:, :lead] = False
    owner = torch.empty(length, dtype=torch.long)
    for window, start in enumerate(starts):
        own = lead if window else 0
        first = start + windows.overlap // 2 if window else 0
        pieces = torch.arange(first, min(start + size - own, length))
        owner[pieces] = window * size + own + pieces - start
    return Layout(places.masked_fill(~there, 0), there, owned, owner)
