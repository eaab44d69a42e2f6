"""Methods of explanation of an encoder that reads everything of its modality as one tensor.

Such an encoder takes ``(inputs, entry)``: `entry` [B, R, E] is what it reads of each of R recordings, whose zeros are
what the explanation compares with. A modality says how its entry falls into the units that are weighed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from consilium.explain.case import Case, Floats
from consilium.modalities.tokens import Inputs, Tokens

_STEPS = 16


@dataclass(frozen=True, slots=True, eq=False)
class EntryMethods:
    """What weighs the units of one modality.

    Attributes
    ----------
    modality : str
    entry_of : callable
        Inputs → what the encoder reads, [B, R, E].
    summed : callable
        (case, weights [1, R, E]) → the weight of each unit, [U].
    spread : callable
        (case, units kept, bool [N, U]) → the same by entry, float [N, R, E].
    """

    modality: str
    entry_of: Callable[[Inputs], Tensor]
    summed: Callable[[Case, Tensor], Floats]
    spread: Callable[[Case, Tensor], Tensor]

    def gradient_x_entry(self, case: Case, positions: Sequence[int]) -> Floats:
        """Gradient × entry."""
        entry = case.traced[self.modality].detach()
        return np.stack([self.summed(case, entry * case.gradients(p)[self.modality]) for p in positions])

    def integrated_gradients(self, case: Case, positions: Sequence[int]) -> Floats:
        """Mean gradient on the way from zeros × entry (Sundararajan et al. 2017)."""
        inputs = case.batch.inputs[self.modality]
        entry = self.entry_of(inputs).detach()
        total = [torch.zeros_like(entry) for _ in positions]
        for step in range(_STEPS):
            with torch.enable_grad():
                at = (entry * ((step + 0.5) / _STEPS)).requires_grad_()
                fused = case.fuse_with(self.modality, self._encoded(case, inputs, at))
                for row, position in enumerate(positions):
                    target = (fused * case.direction(fused, position)).sum()
                    total[row] += torch.autograd.grad(target, at, retain_graph=True)[0] / _STEPS
        return np.stack([self.summed(case, entry * mean) for mean in total])

    def log_odds_keeping(self, case: Case, kept: npt.NDArray[np.bool_]) -> Floats:
        """Log-odds [N, F] of copies that are zero where their units are not `kept` (bool [N, U])."""
        inputs = case.batch.inputs[self.modality]
        entry = self.entry_of(inputs)
        mask = torch.from_numpy(np.asarray(kept)).to(entry.device)

        def encode(rows: slice) -> Tokens:
            chosen = mask[rows]
            many = {name: tensor.expand(len(chosen), *tensor.shape[1:]) for name, tensor in inputs.items()}
            return self._encoded(case, many, entry * self.spread(case, chosen))

        return case.log_odds_of_copies(self.modality, encode, len(mask))

    def _encoded(self, case: Case, inputs: Inputs, entry: Tensor) -> Tokens:
        found: Tokens = case.model.encoders[self.modality](inputs, entry)
        return found
