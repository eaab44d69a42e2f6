"""Case: one study on its way through the model, and what a method may ask of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from consilium.calibration import Calibration
from consilium.domain.errors import InputError
from consilium.modalities.registry import nonempty_subsets, subset_key
from consilium.modalities.tokens import Tokens
from consilium.network.diagnosis_model import DiagnosisModel
from consilium.network.subsets import fuse_subsets
from consilium.preprocessing.batch import Batch, Prepared
from consilium.preprocessing.collate import Preprocessing

Floats = npt.NDArray[np.float64]

MOST_MODALITIES = 8
"""Modalities of a study up to which every subset of them is evaluated, which exact Shapley values take."""

_STEP = 1e-4
_ROWS = 64
"""Altered copies of a study that go through the model at a time."""


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """One study, encoded and fused once, with everything that methods differentiate.

    Attributes
    ----------
    tokens : dict of str to Tokens
        Of this one study.
    fused : float [1, F]
        Uncalibrated logits.
    traced : dict of str or Module to Tensor
        What gradients are taken of: under a modality's name the tensor that its encoder's trace begins from, and the
        output of every module that was watched.
    units : dict of str to sequence
        What can be weighed of each modality that is explained; empty where the study has nothing of it.
    """

    model: DiagnosisModel
    preprocessing: Preprocessing
    calibration: Calibration
    prepared: Prepared
    batch: Batch
    tokens: dict[str, Tokens]
    fused: Tensor
    traced: dict[str | nn.Module, Tensor]
    units: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    _gradients: dict[int, dict[str | nn.Module, Tensor]] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        model: DiagnosisModel,
        preprocessing: Preprocessing,
        calibration: Calibration,
        prepared: Prepared,
        watched: Sequence[nn.Module] = (),
        units: Mapping[str, Sequence[Any]] = MappingProxyType({}),
    ) -> Case:
        """Pass `prepared` through `model` (in evaluation mode); `watched` modules' outputs are traced."""
        batch = preprocessing.collate([prepared]).to(next(model.parameters()).device)
        with torch.enable_grad(), _watching(watched) as traced:
            tokens, trace = model.trace(batch)
        traced.update(trace.entries)
        return cls(
            model=model,
            preprocessing=preprocessing,
            calibration=calibration,
            prepared=prepared,
            batch=batch,
            tokens=tokens,
            fused=trace.fused,
            traced=traced,
            units=units,
        )

    # --- calibrated log-odds -----------------------------------------------------------------------------------------

    @property
    def subset(self) -> str:
        """Key of the modalities that the study has."""
        return subset_key(self.prepared.present)

    def log_odds(self, fused: Tensor) -> Floats:
        """Calibrated log-odds [..., F] of fused logits [..., F] with this study's modalities."""
        return self.calibration.log_odds(fused.detach().cpu().double().numpy(), self.subset)

    def subset_log_odds(self) -> dict[frozenset[str], Floats]:
        """Calibrated log-odds [F] of every subset of the modalities that are there; of the empty one the prior.

        Raises
        ------
        InputError
            Where the study has more than `MOST_MODALITIES`.
        """
        present = self.prepared.present
        if len(present) > MOST_MODALITIES:
            rule = f"must be at most {MOST_MODALITIES} to be explained by exact Shapley values"
            raise InputError("modalities", f"{len(present)} modalities", rule)
        with torch.no_grad():
            fused = fuse_subsets(self.model.fuse, self.tokens, nonempty_subsets(present))
        found = {
            subset: self.calibration.log_odds(logits.cpu().double().numpy(), subset_key(subset))[0]
            for subset, logits in fused.items()
        }
        return {frozenset[str](): np.asarray(self.calibration.prior_log_odds)} | found

    def direction(self, fused: Tensor, position: int) -> Tensor:
        """How the log-odds of the finding at `position` change with the logits, [N, F] at `fused` [N, F].

        By central differences: the calibration is asked, not repeated here.
        """
        logits = fused.detach().cpu().double().numpy()[:, None]
        steps = np.eye(logits.shape[-1]) * _STEP
        ahead = self.calibration.log_odds(logits + steps, self.subset)[..., position]
        behind = self.calibration.log_odds(logits - steps, self.subset)[..., position]
        return torch.from_numpy((ahead - behind) / (2 * _STEP)).to(fused)

    def gradients(self, position: int) -> dict[str | nn.Module, Tensor]:
        """Of the finding's log-odds with respect to everything that is traced; one backward pass, remembered."""
        if position not in self._gradients:
            target = (self.fused * self.direction(self.fused, position)).sum()
            found = torch.autograd.grad(target, list(self.traced.values()), retain_graph=True)
            self._gradients[position] = dict(zip(self.traced, found, strict=True))
        return self._gradients[position]

    # --- the study, altered ------------------------------------------------------------------------------------------

    def fuse_with(self, modality: str, altered: Tokens) -> Tensor:
        """Fused logits [N, F] of N copies with the `altered` tokens of `modality` and this study's of the others.

        `altered` are as the modality's encoder gives them.
        """
        rows, altered = len(altered.mask), self.model.read(modality, altered)
        return self.model.fuse(
            {name: altered if name == modality else _repeated(own, rows) for name, own in self.tokens.items()}
        )

    def log_odds_of_copies(self, modality: str, encode: Callable[[slice], Tokens], copies: int) -> Floats:
        """Calibrated log-odds [N, F] of N copies of the study that differ in `modality`.

        Parameters
        ----------
        encode : callable
            The tokens of `modality` of some of the copies.
        copies : int
            N. A copy without a token counts as a study without the modality.
        """
        others = subset_key(self.prepared.present - {modality})
        found = []
        with torch.no_grad():
            for start in range(0, copies, _ROWS):
                altered = encode(slice(start, min(start + _ROWS, copies)))
                logits = self.fuse_with(modality, altered).cpu().double().numpy()
                present = altered.present.cpu().numpy()[:, None]
                with_it = self.calibration.log_odds(logits, self.subset)
                found.append(np.where(present, with_it, self.calibration.log_odds(logits, others)))
        return np.concatenate(found) if found else np.zeros((0, self.fused.shape[1]))


def _repeated(tokens: Tokens, rows: int) -> Tokens:
    """The tokens of one study, `rows` times, without a gradient."""
    return Tokens(tokens.values.detach().expand(rows, -1, -1), tokens.mask.expand(rows, -1))


@contextmanager
def _watching(modules: Sequence[nn.Module]) -> Iterator[dict[str | nn.Module, Tensor]]:
    """The output of each of `modules` while the context lasts, with a gradient even where their weights are frozen."""
    seen: dict[str | nn.Module, Tensor] = {}

    def watch(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        del inputs
        seen[module] = output if output.requires_grad else output.detach().requires_grad_()
        return seen[module]

    hooks = [module.register_forward_hook(watch) for module in modules]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()
